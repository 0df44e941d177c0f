"""Names that the server and its clients share."""

ARROW = "application/vnd.apache.arrow.stream"
METADATA = b"unskew"  # of the Arrow schema: the reply without its rows, as JSON
