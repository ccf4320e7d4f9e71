"""A plugin's configuration: text stays as it is, structures become JSON."""

from __future__ import annotations

import json

from hypothesis import given
from hypothesis import strategies as st

from asgi_wasm.settings.conf import encode_conf

json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text("abcé€ "),
    lambda inner: st.lists(inner) | st.dictionaries(st.text("abc"), inner),
)


@given(st.lists(json_values) | st.dictionaries(st.text("abc"), json_values))
def test_structures_become_json_and_text_stays(value: object) -> None:
    encoded = encode_conf(value)
    assert encoded is not None
    assert json.loads(encoded) == value
    assert encode_conf(encoded.decode()) == encoded
    assert encode_conf(encoded) == encoded
