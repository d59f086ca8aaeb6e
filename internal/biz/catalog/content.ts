import { skuNotFound } from '../../../gen/catalog/v1/errors.js';
import { invalidArgument } from '../../../gen/common/v1/errors.js';
import { contentNotFound, contentNotOnSale, contentVersionConflict } from '../../../gen/content/v1/errors.js';
import { formatUserId } from '../identity.js';
import type { Outbox } from '../outbox.js';
import { limitOf } from '../page.js';
import { decodePageToken, type TokenPage, tokenPage } from '../page-token.js';
import type { Transaction, TransactionRunner } from '../transaction.js';
import type { PublishStatus, Viewer } from './catalog.js';
import type { SkuContent } from './sku-content.js';
import { encodeTitleChange, TOPIC_CONTENT_CHANGED } from './title-change.js';

/** Digital content that users buy access to. */
export interface Content {
  readonly id: bigint;
  readonly title: string;
  /** Word of the shop, such as VIDEO. */
  readonly contentType: string;
  /** Of the access, when it is bought directly. */
  readonly priceFen: bigint;
  /** Days of access that one order buys; undefined: permanent access. */
  readonly accessDays: number | undefined;
  readonly publishStatus: PublishStatus;
  readonly sellerId: string | undefined;
  /** Counts the changes. */
  readonly version: bigint;
  readonly createdAt: Date;
  readonly updatedAt: Date;
}

export type NewContent = Omit<Content, 'id' | 'version' | 'createdAt' | 'updatedAt'>;

/** Fields of a content that can be changed. Absent fields stay as they are. */
export type ContentPatch = Partial<
  Pick<Content, 'title' | 'contentType' | 'priceFen' | 'publishStatus'> & {
    readonly sellerId: string;
    readonly access: Pick<Content, 'accessDays'>;
  }
>;

export interface ContentFilter {
  /** Part of the title, in upper or lower case. */
  readonly title?: string | undefined;
  readonly contentType?: string | undefined;
  readonly publishStatus?: PublishStatus | undefined;
}

export abstract class ContentRepo {
  abstract insert(content: NewContent): Promise<Content>;
  /** @returns undefined: there is no such content, or its version is another one */
  abstract update(tx: Transaction, id: bigint, version: bigint, patch: ContentPatch): Promise<Content | undefined>;
  abstract find(id: bigint): Promise<Content | undefined>;
  /** Newest first. @param belowId the last one of the page before */
  abstract list(filter: ContentFilter, belowId: bigint | undefined, limit: number): Promise<readonly Content[]>;
  /**
   * Replaces what a sku opens, with the sku locked.
   * @returns what is missing: the sku, or these contents; then nothing was changed
   */
  abstract setSkuContents(
    tx: Transaction,
    skuId: bigint,
    contents: readonly SkuContent[],
  ): Promise<'no-sku' | { readonly missing: readonly bigint[] } | undefined>;
}

export class ContentUsecase {
  constructor(
    private readonly transactions: TransactionRunner,
    private readonly contents: ContentRepo,
    private readonly outbox: Outbox,
  ) {}

  /** @throws INVALID_ARGUMENT seller_id */
  create(content: NewContent): Promise<Content> {
    const sellerId = content.sellerId === undefined ? undefined : formatUserId(content.sellerId, 'seller_id');
    return this.contents.insert({ ...content, sellerId });
  }

  /**
   * Changes a content. The message that brings a new title to its copies is written in the same transaction.
   * @throws CONTENT_NOT_FOUND, CONTENT_VERSION_CONFLICT, INVALID_ARGUMENT nothing to change, seller_id
   */
  async update(id: bigint, version: bigint, patch: ContentPatch): Promise<Content> {
    if (Object.keys(patch).length === 0) throw invalidArgument('no field to change');
    const { sellerId } = patch;
    const changes = {
      ...patch,
      ...(sellerId === undefined ? {} : { sellerId: formatUserId(sellerId, 'seller_id') }),
    };
    const updated = await this.transactions.run(async (tx) => {
      const content = await this.contents.update(tx, id, version, changes);
      if (content && patch.title !== undefined) {
        const payload = encodeTitleChange({ contentId: id, version: content.version, title: content.title });
        await this.outbox.append(tx, [{ topic: TOPIC_CONTENT_CHANGED, refId: id, payload }]);
      }
      return content;
    });
    if (updated) return updated;
    const current = (await this.contents.find(id)) ?? noContent(id);
    throw contentVersionConflict(`content ${id} is at version ${current.version}, not ${version}`, {
      metadata: { content_id: String(id), version: String(current.version) },
    });
  }

  /** @throws CONTENT_NOT_FOUND, for the public also when the content is not published */
  async get(id: bigint, viewer: Viewer): Promise<Content> {
    const content = (await this.contents.find(id)) ?? noContent(id);
    return viewer === 'public' && content.publishStatus !== 'PUBLISHED' ? noContent(id) : content;
  }

  /** @throws CONTENT_NOT_FOUND, CONTENT_NOT_ON_SALE */
  async getOnSale(id: bigint): Promise<Content> {
    const content = (await this.contents.find(id)) ?? noContent(id);
    if (content.publishStatus === 'PUBLISHED') return content;
    throw contentNotOnSale(`content ${id} is not published`, { metadata: { content_id: String(id) } });
  }

  /**
   * @param limit 0: 20
   * @throws INVALID_ARGUMENT page_token
   */
  async list(filter: ContentFilter, viewer: Viewer, limit: number, pageToken: string): Promise<TokenPage<Content>> {
    const { title, contentType, publishStatus } = filter;
    const list = { list: 'contents', title, contentType, publishStatus };
    const belowId = decodePageToken(list, pageToken);
    if (viewer === 'public' && publishStatus === 'UNPUBLISHED') return { items: [], nextPageToken: '' };
    const visible = viewer === 'operator' ? filter : { ...filter, publishStatus: 'PUBLISHED' as const };
    const size = limitOf(limit);
    return tokenPage(list, size, await this.contents.list(visible, belowId, size + 1));
  }

  /**
   * Replaces what each unit of a sku opens. Orders that exist keep what they were sold with.
   * @returns by content id
   * @throws SKU_NOT_FOUND, CONTENT_NOT_FOUND, INVALID_ARGUMENT contents
   */
  async setSkuContents(skuId: bigint, contents: readonly SkuContent[]): Promise<readonly SkuContent[]> {
    const seen = new Set<bigint>();
    contents.forEach(({ contentId }, i) => {
      if (seen.has(contentId)) {
        throw invalidArgument(`content ${contentId} is named twice`, {
          violations: [{ field: `contents[${i}].content_id`, description: 'must be named once' }],
        });
      }
      seen.add(contentId);
    });
    const sorted = [...contents].sort((a, b) => (a.contentId < b.contentId ? -1 : 1));
    const fault = await this.transactions.run((tx) => this.contents.setSkuContents(tx, skuId, sorted), {
      idempotent: true,
    });
    if (fault === undefined) return sorted;
    if (fault === 'no-sku') throw skuNotFound(`no sku ${skuId}`, { metadata: { sku_id: String(skuId) } });
    return noContent(fault.missing[0] ?? 0n);
  }
}

/** @throws CONTENT_NOT_FOUND */
export function noContent(id: bigint): never {
  throw contentNotFound(`no content ${id}`, { metadata: { content_id: String(id) } });
}
