import {
  type AdjustStockRequest,
  type CatalogServiceService,
  type CreateSkuRequest,
  type CreateSpuRequest,
  type GetSkuRequest,
  type GetSpuRequest,
  type ListSpusReply,
  type ListSpusRequest,
  type ListStockMovesReply,
  type ListStockMovesRequest,
  StockMove_Kind as MoveKind,
  type Sku as SkuMessage,
  type Spu as SpuMessage,
  Spu_PublishStatus as Status,
  type UpdateSkuRequest,
  type UpdateSpuRequest,
} from '../../gen/catalog/v1/catalog.js';
import type { CatalogUsecase, ListedSpu, Sku, SkuPatch, Spu, SpuPatch } from '../biz/catalog/catalog.js';
import type { CallContext, ServiceOf } from '../kratos/transport/call-context.js';
import { viewerOf } from './caller.js';
import { enumName } from './enum-name.js';
import { skuContentReply } from './sku-content.js';
import { patchOf } from './update-mask.js';

export class CatalogService implements ServiceOf<typeof CatalogServiceService> {
  constructor(private readonly catalog: CatalogUsecase) {}

  async createSpu(req: CreateSpuRequest): Promise<SpuMessage> {
    const { spuNo, title, categoryId, brandId, mainImages, detailHtml, goodsType } = req;
    const publishStatus = enumName(Status, req.publishStatus) ?? 'UNPUBLISHED';
    const sellerId = req.sellerId === '' ? undefined : req.sellerId;
    return spuReply(
      await this.catalog.createSpu({
        ...{ spuNo, title, categoryId, brandId, mainImages, detailHtml, publishStatus, sellerId, goodsType },
      }),
    );
  }

  async updateSpu(req: UpdateSpuRequest): Promise<SpuMessage> {
    const status = req.publishStatus === undefined ? undefined : enumName(Status, req.publishStatus);
    const patch = patchOf<SpuPatch>(req.updateMask, {
      title: { path: 'title', given: req.title },
      categoryId: { path: 'category_id', given: req.categoryId, cleared: 0n },
      brandId: { path: 'brand_id', given: req.brandId, cleared: 0n },
      mainImages: { path: 'main_images', given: req.mainImages.length > 0 ? req.mainImages : undefined, cleared: [] },
      detailHtml: { path: 'detail_html', given: req.detailHtml, cleared: '' },
      publishStatus: { path: 'publish_status', given: status },
      sellerId: { path: 'seller_id', given: req.sellerId },
      goodsType: { path: 'goods_type', given: req.goodsType, cleared: '' },
    });
    return spuReply(await this.catalog.updateSpu(req.id, req.version, patch));
  }

  async getSpu(req: GetSpuRequest, ctx: CallContext): Promise<SpuMessage> {
    const { spu, skus } = await this.catalog.getSpu(req.id, viewerOf(ctx));
    return spuReply(spu, skus);
  }

  async listSpus(req: ListSpusRequest, ctx: CallContext): Promise<ListSpusReply> {
    const { publishStatus, categoryId, specName, title, minPriceFen, maxPriceFen } = req;
    const specs = specName === '' ? req.specs : { ...req.specs, [specName]: req.specValue };
    const page = await this.catalog.listSpus(
      { offset: req.offset, limit: req.limit },
      {
        ...{ publishStatus: enumName(Status, publishStatus), categoryId, minPriceFen, maxPriceFen },
        title: title === '' ? undefined : title,
        specs: Object.keys(specs).length === 0 ? undefined : specs,
      },
      viewerOf(ctx),
    );
    return { spus: page.items.map((spu) => spuReply(spu)), total: page.total };
  }

  async createSku(req: CreateSkuRequest): Promise<SkuMessage> {
    const { spuId, skuNo, skuName, priceFen, marketPriceFen, specs } = req;
    return skuReply(
      await this.catalog.createSku({ spuId, skuNo, skuName, priceFen, marketPriceFen, specs }, req.stock),
    );
  }

  async updateSku(req: UpdateSkuRequest): Promise<SkuMessage> {
    const patch = patchOf<SkuPatch>(req.updateMask, {
      skuName: { path: 'sku_name', given: req.skuName },
      priceFen: { path: 'price_fen', given: req.priceFen },
      marketPriceFen: { path: 'market_price_fen', given: req.marketPriceFen, cleared: 0n },
      specs: { path: 'specs', given: Object.keys(req.specs).length > 0 ? req.specs : undefined, cleared: {} },
    });
    return skuReply(await this.catalog.updateSku(req.id, req.version, patch));
  }

  async getSku(req: GetSkuRequest, ctx: CallContext): Promise<SkuMessage> {
    const viewer = viewerOf(ctx);
    return skuReply(await (viewer === 'operator' ? this.catalog.getSku(req.id) : this.catalog.getPublishedSku(req.id)));
  }

  async adjustStock(req: AdjustStockRequest): Promise<SkuMessage> {
    const { id: skuId, delta, version, requestId, reason } = req;
    return skuReply(await this.catalog.adjustStock({ skuId, delta, version, requestId, reason }));
  }

  async listStockMoves(req: ListStockMovesRequest): Promise<ListStockMovesReply> {
    const { items, nextPageToken } = await this.catalog.listStockMoves(req.id, req.limit, req.pageToken);
    return {
      moves: items.map(({ kind, orderId = 0n, saleId = 0n, requestId = '', ...move }) => ({
        ...{ ...move, kind: MoveKind[kind], orderId, saleId, requestId },
      })),
      nextPageToken,
    };
  }
}

function spuReply(spu: Spu & Partial<ListedSpu>, skus: readonly Sku[] = []): SpuMessage {
  return {
    ...spu,
    mainImages: [...spu.mainImages],
    publishStatus: Status[spu.publishStatus],
    sellerId: spu.sellerId ?? '',
    minPriceFen: spu.prices?.minFen ?? 0n,
    maxPriceFen: spu.prices?.maxFen ?? 0n,
    freeStock: spu.freeStock ?? 0n,
    skus: skus.map(skuReply),
  };
}

function skuReply(sku: Sku): SkuMessage {
  return { ...sku, specs: { ...sku.specs }, contents: sku.contents.map(skuContentReply) };
}
