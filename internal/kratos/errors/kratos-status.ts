/**
 * How Kratos (Go) converts between HTTP statuses and gRPC codes: `transport/http/status/status.go`. A Kratos client of
 * the gRPC listener sees only the gRPC code and gets the HTTP status from it, so the two codes of a reason must be a
 * pair of these tables. FAILED_PRECONDITION is left out: it is 400 up to v2.8 and 412 from v2.9 on, never 409.
 */
const GRPC_OF_HTTP: ReadonlyMap<number, number> = new Map([
  [400, 3],
  [401, 16],
  [403, 7],
  [404, 5],
  [409, 10],
  [429, 8],
  [499, 1],
  [500, 13],
  [501, 12],
  [503, 14],
  [504, 4],
]);

const HTTP_OF_GRPC: ReadonlyMap<number, number> = new Map([
  [1, 499],
  [2, 500],
  [3, 400],
  [4, 504],
  [5, 404],
  [6, 409],
  [7, 403],
  [8, 429],
  [10, 409],
  [11, 400],
  [12, 501],
  [13, 500],
  [14, 503],
  [15, 500],
  [16, 401],
]);

/** The gRPC code that Kratos sends for an HTTP status; undefined if it has none. */
export function grpcCodeOf(httpCode: number): number | undefined {
  return GRPC_OF_HTTP.get(httpCode);
}

/** The HTTP status that every version of Kratos reads from a gRPC code; undefined if versions differ. */
export function httpCodeOf(grpcCode: number): number | undefined {
  return HTTP_OF_GRPC.get(grpcCode);
}
