import { ContentChanged } from '../../gen/content/v1/event.js';
import type { TitleChange } from '../biz/catalog/title-change.js';
import type { EntitlementUsecase } from '../biz/entitlement/entitlement.js';
import type { Delivery, Verdict } from '../biz/message-queue.js';

/** As `contents.title`. */
const TITLE_MAX = 200;

/** Handles the messages of the queue content.changed. */
export class ContentEventService {
  constructor(private readonly entitlements: EntitlementUsecase) {}

  /**
   * Brings the titles of a batch of messages to their copies.
   * @returns one verdict per message: `reject` for what is no `content.v1.ContentChanged`
   * @throws UNAVAILABLE if the database is unavailable
   */
  async handle(deliveries: readonly Delivery[]): Promise<readonly Verdict[]> {
    const changes = deliveries.map(decode);
    await this.entitlements.changeTitles(changes.filter((change) => change !== undefined));
    return changes.map((change) => (change === undefined ? 'reject' : 'accept'));
  }
}

function decode({ payload }: Delivery): TitleChange | undefined {
  try {
    const { contentId, version, title } = ContentChanged.decode(payload);
    return contentId > 0n && version > 0n && title !== '' && [...title].length <= TITLE_MAX
      ? { contentId, version, title }
      : undefined;
  } catch {
    return undefined;
  }
}
