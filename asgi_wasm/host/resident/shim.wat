;; Sees the plugin's memory and the kernel's, which neither of the two does.
(module
  (import "guest" "memory" (memory $guest 0))
  (import "trampolines" "memory" (memory $kernel 2 2))
  (func (export "guest_size") (result i32) (i32.shl (memory.size $guest) (i32.const 16)))
  (func (export "from_guest") (param i32 i32 i32)
    (memory.copy $kernel $guest (local.get 0) (local.get 1) (local.get 2)))
  (func (export "to_guest") (param i32 i32 i32)
    (memory.copy $guest $kernel (local.get 0) (local.get 1) (local.get 2)))
  (func (export "store_guest") (param i32 i32) (i32.store $guest (local.get 0) (local.get 1))))
