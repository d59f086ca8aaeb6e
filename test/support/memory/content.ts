import type { Sku } from '../../../internal/biz/catalog/catalog.js';
import {
  type Content,
  type ContentFilter,
  type ContentPatch,
  ContentRepo,
  type NewContent,
} from '../../../internal/biz/catalog/content.js';
import type { SkuContent } from '../../../internal/biz/catalog/sku-content.js';
import type { Transaction } from '../../../internal/biz/transaction.js';
import { type MemoryStore, MemoryTable } from './store.js';

export class MemoryContentRepo extends ContentRepo {
  readonly contents: MemoryTable<Content>;

  constructor(
    private readonly store: MemoryStore,
    private readonly skus: MemoryTable<Sku>,
  ) {
    super();
    this.contents = new MemoryTable(store, 'contents', (c) => String(c.id));
  }

  override insert(content: NewContent): Promise<Content> {
    return this.store.statement('content.insert', undefined, async (tx) => {
      const at = this.store.now();
      const stored = { ...content, id: this.store.nextItemId(), version: 1n, createdAt: at, updatedAt: at };
      await this.contents.insert(tx, stored);
      return stored;
    });
  }

  override update(tx: Transaction, id: bigint, version: bigint, patch: ContentPatch): Promise<Content | undefined> {
    const { access, ...changes } = patch;
    return this.store.statement('content.update', tx, () =>
      this.contents.update(tx, String(id), (c) =>
        c.version === version
          ? { ...c, ...changes, ...access, version: version + 1n, updatedAt: this.store.now() }
          : undefined,
      ),
    );
  }

  override find(id: bigint): Promise<Content | undefined> {
    return this.store.statement('content.find', undefined, async () => this.contents.find(String(id)));
  }

  override list(filter: ContentFilter, belowId: bigint | undefined, limit: number): Promise<readonly Content[]> {
    return this.store.statement('content.list', undefined, async () => {
      const { title, contentType, publishStatus } = filter;
      return this.contents
        .rows()
        .filter((c) => belowId === undefined || c.id < belowId)
        .filter((c) => title === undefined || c.title.toLowerCase().includes(title.toLowerCase()))
        .filter((c) => contentType === undefined || c.contentType === contentType)
        .filter((c) => publishStatus === undefined || c.publishStatus === publishStatus)
        .sort((a, b) => (a.id < b.id ? 1 : -1))
        .slice(0, limit);
    });
  }

  override setSkuContents(
    tx: Transaction,
    skuId: bigint,
    contents: readonly SkuContent[],
  ): Promise<'no-sku' | { readonly missing: readonly bigint[] } | undefined> {
    return this.store.statement('content.setSkuContents', tx, async () => {
      if (!(await this.skus.lock(tx, String(skuId)))) return 'no-sku';
      const missing = contents.map((c) => c.contentId).filter((id) => !this.contents.find(String(id), tx));
      if (missing.length > 0) return { missing };
      await this.skus.update(tx, String(skuId), (sku) => ({ ...sku, contents }));
      return undefined;
    });
  }
}
