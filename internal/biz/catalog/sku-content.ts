/** A content that each unit of a sku opens. */
export interface SkuContent {
  readonly contentId: bigint;
  /** Days of access; undefined: permanent access. */
  readonly days: number | undefined;
}
