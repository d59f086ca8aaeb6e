import { ContentChanged } from '../../../gen/content/v1/event.js';
import { decodeTitleChange } from '../../biz/catalog/title-change.js';

/** The message of an outbox row of topic `content.changed`. */
export function contentChangedMessage(payload: Uint8Array): Uint8Array {
  return ContentChanged.encode(decodeTitleChange(payload)).finish();
}
