"""Bytes that guests and host exchange: pairs, property values, protobuf's messages."""
