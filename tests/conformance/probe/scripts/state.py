"""Shared data, queues and metrics."""

from __future__ import annotations

from tests.conformance.probe.script import POST, Script, in_phase

SCRIPTS = [
    Script(
        "data",
        in_phase(
            "request_headers",
            """
            get_shared_data "k"
            set_shared_data "k" "v" 77
            get_shared_data "k"
            keep a 2
            set_shared_data "k" "w" %a
            get_shared_data "k"
            set_shared_data "k" "x" %a
            get_shared_data "k"
            set_shared_data "k" "x" 0
            get_shared_data "k"
            set_shared_data "k" "" 0
            get_shared_data "k"
            set_shared_data "" "empty key" 0
            get_shared_data ""
            set_shared_data "a\\x00b" "nul" 0
            get_shared_data "a\\x00b"
            get_shared_data "a"
            set_shared_data "\\xff\\xfe" "\\xff" 0
            get_shared_data "\\xff\\xfe"
            set_shared_data "big" "x"*70000 0
            get_shared_data "big"
            """,
        )
        + in_phase("log", 'get_shared_data "k"'),
        others=[in_phase("request_headers", 'get_shared_data "k"\nget_shared_data "\\xff\\xfe"')],
    ),
    Script(
        "data-bad-memory",
        in_phase(
            "request_headers",
            """
            set_shared_data "k" "v" 0
            get_shared_data 0xfffffff0 4
            get_shared_data "k" 0xfffffff0 $1 $2
            get_shared_data "k" $0 0xfffffff0 $2
            get_shared_data "k" $0 $1 0xfffffff0
            get_shared_data "none" 0xfffffff0 0xfffffff0 0xfffffff0
            set_shared_data 0xfffffff0 4 "v" 0
            set_shared_data "k" 0xfffffff0 4 0
            refuse 1
            get_shared_data "k"
            """,
        ),
    ),
    Script(
        "queue",
        in_phase(
            "request_headers",
            """
            resolve_shared_queue "" "q"
            register_shared_queue "q"
            keep q 0
            register_shared_queue "q"
            resolve_shared_queue "" "q"
            resolve_shared_queue "queue" "q"
            resolve_shared_queue "other" "q"
            resolve_shared_queue "" ""
            dequeue_shared_queue %q
            enqueue_shared_queue %q "one"
            enqueue_shared_queue %q "two"
            enqueue_shared_queue %q ""
            dequeue_shared_queue %q
            register_shared_queue "q"
            dequeue_shared_queue %q
            dequeue_shared_queue %q
            dequeue_shared_queue %q
            enqueue_shared_queue 0 "x"
            dequeue_shared_queue 0
            enqueue_shared_queue 9999 "x"
            dequeue_shared_queue 9999
            register_shared_queue ""
            register_shared_queue "\\xff"
            """,
        )
        + in_phase("queue_ready@1", 'log 2 "ready"'),
    ),
    Script(
        "queue-ready",
        'configure: register_shared_queue "q"\nconfigure: keep q 0\n'
        + in_phase("request_headers", 'enqueue_shared_queue %q "one"\nenqueue_shared_queue %q "two"')
        + in_phase("queue_ready", "args\ndequeue_shared_queue %q"),
        [POST, POST],
    ),
    Script(
        "queue-owner",
        in_phase("configure", 'register_shared_queue "q"\nkeep q 0')
        + in_phase("queue_ready", "args\ndequeue_shared_queue %q"),
        others=[
            in_phase("configure", 'register_shared_queue "q"')
            + in_phase("request_headers", 'resolve_shared_queue "" "q"\nkeep r 0\nenqueue_shared_queue %r "x"')
            + in_phase("queue_ready", "args\ndequeue_shared_queue %r")
        ],
    ),
    Script(
        "queue-bad-memory",
        in_phase(
            "request_headers",
            """
            register_shared_queue 0xfffffff0 4
            register_shared_queue "q" 0xfffffff0
            register_shared_queue "q"
            keep q 0
            resolve_shared_queue 0xfffffff0 4 "q"
            resolve_shared_queue "" 0xfffffff0 4
            resolve_shared_queue "" "q" 0xfffffff0
            resolve_shared_queue "" "none" 0xfffffff0
            enqueue_shared_queue %q 0xfffffff0 4
            enqueue_shared_queue 9999 0xfffffff0 4
            enqueue_shared_queue %q "x"
            dequeue_shared_queue %q 0xfffffff0 $1
            dequeue_shared_queue %q
            dequeue_shared_queue %q 0xfffffff0 $1
            enqueue_shared_queue %q "x"
            refuse 1
            dequeue_shared_queue %q
            dequeue_shared_queue %q
            """,
        ),
    ),
    Script(
        "metric",
        in_phase(
            "request_headers",
            """
            define_metric 0 "metric.counter"
            keep c 0
            define_metric 0 "metric.counter"
            define_metric 1 "metric.gauge"
            keep g 0
            define_metric 1 "metric.gauge"
            keep h 0
            define_metric 2 "metric.histogram"
            keep i 0
            define_metric 3 "metric.none"
            define_metric -1 "metric.none"
            define_metric 0 ""
            get_metric %c
            increment_metric %c 5
            get_metric %c
            increment_metric %c 0
            increment_metric %c -1
            get_metric %c
            record_metric %c 10
            get_metric %c
            record_metric %c -1
            get_metric %c
            get_metric %g
            increment_metric %g 5
            increment_metric %g 0
            increment_metric %g -2
            get_metric %g
            get_metric %h
            increment_metric %g -10
            get_metric %g
            record_metric %g 7
            get_metric %g
            record_metric %g -1
            get_metric %g
            record_metric %i 3
            increment_metric %i 3
            get_metric %i
            increment_metric 0 1
            increment_metric 400 1
            increment_metric 401 1
            increment_metric 402 1
            increment_metric 403 1
            increment_metric -1 1
            record_metric 0 1
            record_metric 400 1
            record_metric 402 1
            record_metric 403 1
            get_metric 0
            get_metric 400
            get_metric 401
            get_metric 402
            get_metric 403
            increment_metric %c 0x7fffffffffffffff
            get_metric %c
            """,
        ),
    ),
    Script(
        "metric-two-plugins",
        in_phase("request_headers", 'define_metric 0 "two.shared"\nkeep c 0\nincrement_metric %c 2'),
        others=[
            in_phase(
                "request_headers",
                'get_metric %c\ndefine_metric 0 "two.shared"\nkeep d 0\nget_metric %d\nincrement_metric %d 3\nget_metric %c',
            )
        ],
    ),
    Script(
        "metric-bad-memory",
        in_phase(
            "request_headers",
            """
            define_metric 0 0xfffffff0 4
            define_metric 0 "bad.memory" 0xfffffff0
            define_metric 9 0xfffffff0 4
            define_metric 0 "bad.memory"
            keep c 0
            get_metric %c 0xfffffff0
            get_metric 400 0xfffffff0
            """,
        ),
    ),
]
