/** A message on its way to a queue. */
export interface OutgoingMessage {
  /** Stays the same when the message is sent again, so that its copies can be told. */
  readonly messageId: string;
  readonly payload: Uint8Array;
  readonly headers: Readonly<Record<string, string>> | undefined;
}

/** What became of one message. Only `published` means that the broker has it. */
export type PublishOutcome =
  | { readonly kind: 'published' }
  /** The broker has no such queue. */
  | { readonly kind: 'returned'; readonly reason: string }
  /** The broker refused it: the queue is full, or failed. */
  | { readonly kind: 'nacked' }
  /** Nobody knows: no confirm came in time, or the connection is away. Sending again may give a second copy. */
  | { readonly kind: 'unconfirmed'; readonly reason: string };

export abstract class QueuePublisher {
  /**
   * Sends messages to one queue; resolves when the fate of each is known, at the latest after the confirm timeout.
   * @returns one outcome for each, in order
   */
  abstract publish(messages: readonly OutgoingMessage[]): Promise<readonly PublishOutcome[]>;
}

/** A message as it came from a queue. */
export interface Delivery {
  readonly payload: Uint8Array;
  readonly headers: Readonly<Record<string, string>>;
  readonly redelivered: boolean;
}

/** `accept`: it is dealt with. `reject`: the broker puts it in the dead-letter queue. */
export type Verdict = 'accept' | 'reject';

/**
 * Deals with what has arrived, in one go. One call at a time; while it runs, the broker keeps the messages. Messages
 * come again if it throws.
 *
 * @param signal aborted when waiting makes no sense any more: the connection is gone, or the consumer stops
 * @returns one verdict for each delivery, in order
 */
export type DeliveryHandler = (deliveries: readonly Delivery[], signal: AbortSignal) => Promise<readonly Verdict[]>;

export abstract class QueueConsumer {
  /** Name of the queue. */
  abstract readonly queue: string;
  /** Starts handing over messages, now or when the broker is there, and again after each loss of the connection. */
  abstract start(handle: DeliveryHandler): void;
  /** Takes no more messages and waits for the handler's last call, until `deadline` fires. */
  abstract stop(deadline: AbortSignal): Promise<void>;
}
