import {
  AccessType,
  type CheckAccessBatchReply,
  type CheckAccessBatchRequest,
  type CheckAccessRequest,
  type ContentAccess,
  type Content as ContentMessage,
  type ContentServiceService,
  type CreateContentRequest,
  type Entitlement as EntitlementMessage,
  Entitlement_Status as EntitlementStatusCode,
  type GetContentRequest,
  type GrantEntitlementRequest,
  type ListContentsReply,
  type ListContentsRequest,
  type ListMyContentsReply,
  type ListMyContentsRequest,
  type RevokeEntitlementReply,
  type RevokeEntitlementRequest,
  type SetSkuContentsReply,
  type SetSkuContentsRequest,
  Content_PublishStatus as Status,
  type UpdateContentRequest,
} from '../../gen/content/v1/content.js';
import type { Content, ContentPatch, ContentUsecase } from '../biz/catalog/content.js';
import type { EntitlementUsecase } from '../biz/entitlement/entitlement.js';
import type { AccessState, Entitlement } from '../biz/entitlement/entitlement-state.js';
import { formatUserId } from '../biz/identity.js';
import type { CallContext, ServiceOf } from '../kratos/transport/call-context.js';
import { userOf, viewerOf } from './caller.js';
import { enumName } from './enum-name.js';
import { skuContentOf, skuContentReply } from './sku-content.js';
import { patchOf } from './update-mask.js';

/** What an update may change; the days of access go with their type. */
type MaskedPatch = Omit<ContentPatch, 'access'> & { readonly accessType?: AccessType; readonly accessDays?: number };

export class ContentService implements ServiceOf<typeof ContentServiceService> {
  constructor(
    private readonly contents: ContentUsecase,
    private readonly entitlements: EntitlementUsecase,
  ) {}

  async createContent(req: CreateContentRequest): Promise<ContentMessage> {
    const { title, contentType, priceFen } = req;
    const accessDays = req.accessDays === 0 ? undefined : req.accessDays;
    const publishStatus = enumName(Status, req.publishStatus) ?? 'UNPUBLISHED';
    const sellerId = req.sellerId === '' ? undefined : req.sellerId;
    return contentReply(
      await this.contents.create({ title, contentType, priceFen, accessDays, publishStatus, sellerId }),
    );
  }

  async updateContent(req: UpdateContentRequest): Promise<ContentMessage> {
    const status = req.publishStatus === undefined ? undefined : enumName(Status, req.publishStatus);
    const { accessType, accessDays, ...patch } = patchOf<MaskedPatch>(req.updateMask, {
      title: { path: 'title', given: req.title },
      contentType: { path: 'content_type', given: req.contentType },
      priceFen: { path: 'price_fen', given: req.priceFen, cleared: 0n },
      publishStatus: { path: 'publish_status', given: status },
      sellerId: { path: 'seller_id', given: req.sellerId },
      accessType: { path: 'access_type', given: req.accessType },
      accessDays: { path: 'access_days', given: req.accessDays },
    });
    const access = accessType === undefined ? {} : { access: { accessDays } };
    return contentReply(await this.contents.update(req.id, req.version, { ...patch, ...access }));
  }

  async getContent(req: GetContentRequest, ctx: CallContext): Promise<ContentMessage> {
    return contentReply(await this.contents.get(req.id, viewerOf(ctx)));
  }

  async listContents(req: ListContentsRequest, ctx: CallContext): Promise<ListContentsReply> {
    const filter = {
      title: req.title === '' ? undefined : req.title,
      contentType: req.contentType === '' ? undefined : req.contentType,
      publishStatus: enumName(Status, req.publishStatus),
    };
    const { items, nextPageToken } = await this.contents.list(filter, viewerOf(ctx), req.limit, req.pageToken);
    return { contents: items.map(contentReply), nextPageToken };
  }

  async setSkuContents(req: SetSkuContentsRequest): Promise<SetSkuContentsReply> {
    const contents = await this.contents.setSkuContents(req.id, req.contents.map(skuContentOf));
    return { contents: contents.map(skuContentReply) };
  }

  async checkAccess(req: CheckAccessRequest, ctx: CallContext): Promise<ContentAccess> {
    return accessReply(await this.entitlements.check({ userId: userOf(ctx), contentId: req.id }));
  }

  async checkAccessBatch(req: CheckAccessBatchRequest): Promise<CheckAccessBatchReply> {
    const accesses = req.pairs.map(({ userId, contentId }, i) => {
      return { userId: formatUserId(userId, `pairs[${i}].user_id`), contentId };
    });
    return { accesses: (await this.entitlements.checkAll(accesses)).map(accessReply) };
  }

  async listMyContents(req: ListMyContentsRequest, ctx: CallContext): Promise<ListMyContentsReply> {
    const status = enumName(EntitlementStatusCode, req.status);
    const { items, nextPageToken } = await this.entitlements.list(userOf(ctx), status, req.limit, req.pageToken);
    return { entitlements: items.map(entitlementReply), nextPageToken };
  }

  async grantEntitlement(req: GrantEntitlementRequest): Promise<EntitlementMessage> {
    const { id: contentId, requestId, reason } = req;
    const userId = formatUserId(req.userId, 'user_id');
    const days = req.accessDays === 0 ? undefined : req.accessDays;
    return entitlementReply(await this.entitlements.grant({ userId, contentId, days, requestId, reason }));
  }

  async revokeEntitlement(req: RevokeEntitlementRequest): Promise<RevokeEntitlementReply> {
    const { id: contentId, reason } = req;
    const userId = formatUserId(req.userId, 'user_id');
    const id = req.entitlementId === 0n ? undefined : req.entitlementId;
    return { revoked: await this.entitlements.revoke({ userId, contentId, id, reason }) };
  }
}

function contentReply({ accessDays, ...content }: Content): ContentMessage {
  return {
    ...content,
    publishStatus: Status[content.publishStatus],
    sellerId: content.sellerId ?? '',
    accessType: accessDays === undefined ? AccessType.PERMANENT : AccessType.TEMPORARY,
    accessDays: accessDays ?? 0,
  };
}

function accessReply(state: AccessState): ContentAccess {
  if (!state.hasAccess) {
    return { hasAccess: false, accessType: AccessType.ACCESS_TYPE_UNSPECIFIED, accessEndTime: undefined };
  }
  const accessType = state.until === undefined ? AccessType.PERMANENT : AccessType.TEMPORARY;
  return { hasAccess: true, accessType, accessEndTime: state.until };
}

function entitlementReply(e: Entitlement): EntitlementMessage {
  return {
    id: e.id,
    orderId: e.orderId ?? 0n,
    orderNo: e.orderId === undefined ? '' : `ORD${e.orderId}`,
    userId: e.userId,
    contentId: e.contentId,
    contentTitle: e.contentTitle,
    contentType: e.contentType,
    goodsType: e.goodsType ?? '',
    accessType: e.endsAt === undefined ? AccessType.PERMANENT : AccessType.TEMPORARY,
    accessStartTime: e.startsAt,
    accessEndTime: e.endsAt,
    status: EntitlementStatusCode[e.status],
    reason: e.reason,
    createdAt: e.createdAt,
  };
}
