/** Which part of a list to return. */
export interface PageRequest {
  readonly offset: number;
  /** At most MAX_PAGE. 0: 20. */
  readonly limit: number;
}

export interface Page<T> {
  readonly items: readonly T[];
  /** Number of items on all pages. */
  readonly total: bigint;
}

export const MAX_PAGE = 100;
const DEFAULT_PAGE = 20;

/** Applies the default and the bounds, for callers whose request no proto rule has checked. */
export function pageOf(page: PageRequest): PageRequest {
  return {
    offset: Math.max(0, page.offset),
    limit: limitOf(page.limit),
  };
}

/** The number of items of a page, from 1 to MAX_PAGE. 0: 20. */
export function limitOf(limit: number): number {
  return limit <= 0 ? DEFAULT_PAGE : Math.min(limit, MAX_PAGE);
}
