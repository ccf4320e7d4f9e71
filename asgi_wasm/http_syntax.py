"""What RFC 9110 allows: regular expressions as text (a field's bytes are latin-1), and the codes of a final status."""

# Section 5.6.2; names of fields and methods are tokens.
TOKEN = r"[!#$%&'*+\-.^_`|~0-9A-Za-z]+"
# Section 5.5, with the obsolete bytes above ASCII.
FIELD_VALUE = r"[\t\x20-\x7e\x80-\xff]*"
# Section 15: of a final response, which an informational one (1xx) is not.
MIN_STATUS, MAX_STATUS = 200, 599
