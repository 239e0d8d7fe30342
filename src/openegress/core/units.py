"""Units of time, in nanoseconds."""

NS = 1
US = 1_000 * NS
MS = 1_000 * US
S = 1_000 * MS
