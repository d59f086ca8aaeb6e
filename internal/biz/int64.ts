/** Greatest value of a BIGINT column and of a proto int64. */
export const INT64_MAX = 2n ** 63n - 1n;
