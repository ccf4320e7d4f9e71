;; Sees the plugin's memory and the kernel's, which neither of the two does. What is as short as most names and values is
;; copied here, from both of its ends: the engine's own copy is a call out of the guest. The kernel has looked at addresses.
(module
  (import "guest" "memory" (memory $guest 0))
  (import "trampolines" "memory" (memory $kernel 2 2))
  (func (export "guest_size") (result i32) (i32.shl (memory.size $guest) (i32.const 16)))
  (func (export "from_guest") (param i32 i32 i32)
    (if (i32.gt_u (local.get 2) (i32.const 16))
      (then (memory.copy $kernel $guest (local.get 0) (local.get 1) (local.get 2)) (return)))
    (if (i32.ge_u (local.get 2) (i32.const 8))
      (then
        (i64.store $kernel (local.get 0) (i64.load $guest (local.get 1)))
        (i64.store $kernel (i32.add (local.get 0) (i32.sub (local.get 2) (i32.const 8))) (i64.load $guest (i32.add (local.get 1) (i32.sub (local.get 2) (i32.const 8)))))
        (return)))
    (if (i32.ge_u (local.get 2) (i32.const 4))
      (then
        (i32.store $kernel (local.get 0) (i32.load $guest (local.get 1)))
        (i32.store $kernel (i32.add (local.get 0) (i32.sub (local.get 2) (i32.const 4))) (i32.load $guest (i32.add (local.get 1) (i32.sub (local.get 2) (i32.const 4)))))
        (return)))
    (if (local.get 2)
      (then
        (i32.store8 $kernel (local.get 0) (i32.load8_u $guest (local.get 1)))
        (i32.store8 $kernel (i32.add (local.get 0) (i32.shr_u (local.get 2) (i32.const 1))) (i32.load8_u $guest (i32.add (local.get 1) (i32.shr_u (local.get 2) (i32.const 1)))))
        (i32.store8 $kernel (i32.add (local.get 0) (i32.sub (local.get 2) (i32.const 1))) (i32.load8_u $guest (i32.add (local.get 1) (i32.sub (local.get 2) (i32.const 1))))))))
  (func (export "to_guest") (param i32 i32 i32)
    (if (i32.gt_u (local.get 2) (i32.const 16))
      (then (memory.copy $guest $kernel (local.get 0) (local.get 1) (local.get 2)) (return)))
    (if (i32.ge_u (local.get 2) (i32.const 8))
      (then
        (i64.store $guest (local.get 0) (i64.load $kernel (local.get 1)))
        (i64.store $guest (i32.add (local.get 0) (i32.sub (local.get 2) (i32.const 8))) (i64.load $kernel (i32.add (local.get 1) (i32.sub (local.get 2) (i32.const 8)))))
        (return)))
    (if (i32.ge_u (local.get 2) (i32.const 4))
      (then
        (i32.store $guest (local.get 0) (i32.load $kernel (local.get 1)))
        (i32.store $guest (i32.add (local.get 0) (i32.sub (local.get 2) (i32.const 4))) (i32.load $kernel (i32.add (local.get 1) (i32.sub (local.get 2) (i32.const 4)))))
        (return)))
    (if (local.get 2)
      (then
        (i32.store8 $guest (local.get 0) (i32.load8_u $kernel (local.get 1)))
        (i32.store8 $guest (i32.add (local.get 0) (i32.shr_u (local.get 2) (i32.const 1))) (i32.load8_u $kernel (i32.add (local.get 1) (i32.shr_u (local.get 2) (i32.const 1)))))
        (i32.store8 $guest (i32.add (local.get 0) (i32.sub (local.get 2) (i32.const 1))) (i32.load8_u $kernel (i32.add (local.get 1) (i32.sub (local.get 2) (i32.const 1))))))))
  (func (export "store_guest") (param i32 i32) (i32.store $guest (local.get 0) (local.get 1))))
