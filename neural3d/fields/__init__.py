"""Encodings, networks and heads: functions of position and direction."""
