import { type OutgoingMessage, type PublishOutcome, QueuePublisher } from '../../../internal/biz/message-queue.js';

/** Keeps what was published. */
export class MemoryQueue extends QueuePublisher {
  readonly messages: OutgoingMessage[] = [];

  override async publish(messages: readonly OutgoingMessage[]): Promise<readonly PublishOutcome[]> {
    this.messages.push(...messages);
    return messages.map(() => ({ kind: 'published' }));
  }
}
