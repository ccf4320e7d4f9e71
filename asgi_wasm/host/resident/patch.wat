;; Puts the kernel's hostcalls into the table of the trampolines, in their order.
(module
  (type $1 (func (param i32) (result i32)))
  (type $2 (func (param i32 i32) (result i32)))
  (type $3 (func (param i32 i32 i32) (result i32)))
  (type $4 (func (param i32 i32 i32 i32) (result i32)))
  (type $5 (func (param i32 i32 i32 i32 i32) (result i32)))
  (type $8 (func (param i32 i32 i32 i32 i32 i32 i32 i32) (result i32)))
  (import "trampolines" "table" (table 12 12 funcref))
  (import "kernel" "get" (func $get (type $5)))
  (import "kernel" "add" (func $add (type $5)))
  (import "kernel" "replace" (func $replace (type $5)))
  (import "kernel" "remove" (func $remove (type $3)))
  (import "kernel" "get_pairs" (func $get_pairs (type $3)))
  (import "kernel" "get_size" (func $get_size (type $2)))
  (import "kernel" "respond" (func $respond (type $8)))
  (import "kernel" "get_buffer" (func $get_buffer (type $5)))
  (import "kernel" "buffer_status" (func $buffer_status (type $3)))
  (import "kernel" "set_buffer" (func $set_buffer (type $5)))
  (import "kernel" "get_time" (func $get_time (type $1)))
  (import "kernel" "get_property" (func $get_property (type $4)))
  (elem (i32.const 0) func
    $get $add $replace $remove $get_pairs $get_size $respond $get_buffer $buffer_status $get_time $get_property
    $set_buffer))
