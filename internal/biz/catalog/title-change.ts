/** Outbox topic of contents whose title changed. ref_id is the content. */
export const TOPIC_CONTENT_CHANGED = 'content.changed';

/** The title that a content has since a version of it. */
export interface TitleChange {
  readonly contentId: bigint;
  readonly version: bigint;
  readonly title: string;
}

/** The payload of an outbox row. */
export function encodeTitleChange({ contentId, version, title }: TitleChange): Uint8Array {
  return Buffer.from(JSON.stringify({ contentId: String(contentId), version: String(version), title }));
}

export function decodeTitleChange(payload: Uint8Array): TitleChange {
  const raw = JSON.parse(Buffer.from(payload).toString()) as Record<keyof TitleChange, string>;
  return { contentId: BigInt(raw.contentId), version: BigInt(raw.version), title: raw.title };
}
