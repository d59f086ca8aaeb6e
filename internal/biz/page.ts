/** A slice of a list. */
export interface PageRequest {
  readonly offset: number;
  /** At most MAX_PAGE; 0 is the default of 20. */
  readonly limit: number;
}

export interface Page<T> {
  readonly items: readonly T[];
  /** Over all pages. */
  readonly total: bigint;
}

export const MAX_PAGE = 100;
const DEFAULT_PAGE = 20;

/** The page with its default filled in and its bound kept, for callers that no proto rule has checked. */
export function pageOf(page: PageRequest): PageRequest {
  return {
    offset: Math.max(0, page.offset),
    limit: page.limit <= 0 ? DEFAULT_PAGE : Math.min(page.limit, MAX_PAGE),
  };
}
