/** A message to be published. */
export interface OutgoingMessage {
  /** Stays the same when the message is sent again, so that duplicates can be recognized. */
  readonly messageId: string;
  readonly payload: Uint8Array;
  readonly headers: Readonly<Record<string, string>> | undefined;
}

/** The fate of one message. Only `published` means that the broker has stored it. */
export type PublishOutcome =
  | { readonly kind: 'published' }
  /** The broker has no such queue. */
  | { readonly kind: 'returned'; readonly reason: string }
  /** The broker rejected it: the queue is full or has failed. */
  | { readonly kind: 'nacked' }
  /** Unknown: no confirm came in time, or the connection was lost. Sending it again may create a duplicate. */
  | { readonly kind: 'unconfirmed'; readonly reason: string };

export abstract class QueuePublisher {
  /**
   * Publishes messages to one queue. Resolves when the fate of each is known, at the latest after the confirm timeout.
   * @returns one outcome for each, in order
   */
  abstract publish(messages: readonly OutgoingMessage[]): Promise<readonly PublishOutcome[]>;
}

/** A message that was received from a queue. */
export interface Delivery {
  readonly payload: Uint8Array;
  readonly headers: Readonly<Record<string, string>>;
  readonly redelivered: boolean;
}

/** `accept`: it was handled. `reject`: the broker moves it to the dead-letter queue. */
export type Verdict = 'accept' | 'reject';

/**
 * Handles a batch of messages. Calls do not overlap, and the broker keeps the messages until the call resolves. If it
 * throws, the messages are delivered again.
 *
 * @param signal aborted when the connection is lost or the consumer stops, so that waiting is pointless
 * @returns one verdict for each delivery, in order
 */
export type DeliveryHandler = (deliveries: readonly Delivery[], signal: AbortSignal) => Promise<readonly Verdict[]>;

export abstract class QueueConsumer {
  /** Name of the queue. */
  abstract readonly queue: string;
  /** Starts to deliver messages, as soon as the broker is available and again after each loss of the connection. */
  abstract start(handle: DeliveryHandler): void;
  /** Takes no more messages and waits for the last call of the handler, until `deadline` is aborted. */
  abstract stop(deadline: AbortSignal): Promise<void>;
}
