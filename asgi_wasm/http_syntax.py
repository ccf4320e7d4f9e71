"""Regular expressions of RFC 9110, as text: the bytes of a field are latin-1."""

# Section 5.6.2; names of fields and methods are tokens.
TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# Section 5.5, with the obsolete bytes above ASCII.
FIELD_VALUE = r"[\t\x20-\x7e\x80-\xff]*"
