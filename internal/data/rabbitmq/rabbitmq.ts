import type { Duplex } from 'node:stream';
import type { Channel, ChannelModel, RecoveringChannelModel } from 'amqplib';
import { connect } from 'amqplib';
import type { Config } from '../../conf/config.js';
import type { HealthProbe } from '../../kratos/app/health-probe.js';
import type { Worker } from '../../kratos/app/worker.js';
import type { Logger } from '../../kratos/log/logger.js';
import type { Count, Metrics } from '../../kratos/metrics/metrics.js';
import { Brokers, brokerUrls } from './brokers.js';

export type QueueType = 'classic' | 'quorum';

export interface RabbitOptions {
  /** amqp:// URL, or those of several nodes of a cluster with commas between them. */
  readonly url: string;
  readonly queue: string;
  readonly queueType: QueueType;
  /** Shown in the broker's list of connections. */
  readonly applicationName: string;
}

export function rabbitOptions(config: Config, worker: Worker): RabbitOptions {
  const { url, queue, queueType } = config.data.rabbitmq;
  return {
    url,
    queue,
    queueType: queueTypeOf(queueType, url),
    applicationName: `kaimai-${worker.process}-${worker.index}`,
  };
}

/** `auto`: quorum where several nodes are named, because a classic queue is lost with its node for as long as that is away. */
export function queueTypeOf(setting: string, url: string): QueueType {
  if (setting === 'auto') return brokerUrls(url).length > 1 ? 'quorum' : 'classic';
  return setting === 'quorum' ? 'quorum' : 'classic';
}

/** @param use what the connection is for */
export function connectionLosses(metrics: Metrics, use: 'publisher' | 'consumer', { queue }: RabbitOptions): Count {
  return metrics.count(
    'amqp_connection_losses_total',
    'Connections to RabbitMQ that were lost or could not be opened; once for each outage.',
    { connection: use, queue },
  );
}

/** Not critical: while the broker is unavailable, the work waits in the outbox and in the queue. */
export function rabbitProbe(rabbit: { ping(): Promise<void> }): HealthProbe {
  return { name: 'rabbitmq', critical: false, check: () => rabbit.ping() };
}

const CONNECT_TIMEOUT_MS = 5_000;
const SETUP_TIMEOUT_MS = 15_000;
const CLOSE_TIMEOUT_MS = 2_000;
const FIRST_RETRY_MS = 100;
const LAST_RETRY_MS = 5_000;
const PRECONDITION_FAILED = 406;

/** Maximum length of the queue. Further publishes are nacked, and their rows stay in the outbox. */
const MAX_LENGTH = 1_000_000;
/** Unacknowledged deliveries after which a quorum queue moves a message to the dead-letter queue. */
const DELIVERY_LIMIT = 20;

/**
 * A connection that is reopened when it is lost. `setup` runs on each new connection, also on the first. If it fails or
 * takes too long, the connection is closed and opened again.
 */
export class RabbitLink {
  private brokers: Brokers | undefined;
  private recovering: RecoveringChannelModel | undefined;
  /** The open connection, whether or not `setup` is done. */
  private model: ChannelModel | undefined;
  private closing = false;
  private down = false;
  private ready = false;

  constructor(
    private readonly options: RabbitOptions,
    private readonly logger: Logger,
    private readonly losses: Count,
    private readonly setup: (model: ChannelModel) => Promise<void>,
  ) {}

  /** Starts to connect and resolves at once, whether or not the broker is available. */
  async open(): Promise<void> {
    this.brokers = new Brokers(this.options.url);
    const recovering = await connect(this.brokers.target, {
      timeout: CONNECT_TIMEOUT_MS,
      noDelay: true,
      clientProperties: { connection_name: this.options.applicationName },
      recovery: {
        initialDelay: FIRST_RETRY_MS,
        maxDelay: LAST_RETRY_MS,
        waitForConnect: false,
        setup: (model: ChannelModel) => this.prepare(model),
      },
    });
    recovering.on('error', (err) => this.logger.debug('RabbitMQ connection failed', { err }));
    recovering.on('connect-failed', (err) => this.wentDown(err));
    recovering.on('disconnect', (err) => this.wentDown(err));
    recovering.on('connect', () => {
      this.ready = true;
      if (this.down) this.logger.info('RabbitMQ is connected again');
      this.down = false;
    });
    recovering.on('handler-error', (err) => this.logger.error('a RabbitMQ listener threw', { err }));
    this.recovering = recovering;
  }

  /** Replaces the connection, for when it is open but the broker no longer answers. */
  drop(reason: string): void {
    if (this.model) void destroy(this.model, reason);
  }

  /**
   * @param last the channel whose acknowledgements must still be sent: amqplib closes a connection at once, without
   * waiting for what its channels have not sent yet
   */
  async close(last?: Channel): Promise<void> {
    this.closing = true;
    await within(CLOSE_TIMEOUT_MS, last?.close());
    await within(CLOSE_TIMEOUT_MS, this.recovering?.close());
    // The broker did not answer, or a setup is running, which the close of amqplib does not end.
    if (this.model) await destroy(this.model, 'close took too long');
  }

  /** Resolves when the broker has answered a request. */
  async ping(): Promise<void> {
    if (!this.model || !this.ready) throw new Error('RabbitMQ is not connected');
    const channel = await this.model.createChannel();
    await channel.close();
  }

  private async prepare(model: ChannelModel): Promise<void> {
    // First of all, because without a listener an error of the broker would end the process.
    model.on('error', (err) => this.logger.debug('RabbitMQ connection failed', { err }));
    model.on('close', () => {
      if (this.model !== model) return;
      this.model = undefined;
      this.ready = false;
    });
    this.model = model;
    const timer = setTimeout(() => void destroy(model, 'setup took too long'), SETUP_TIMEOUT_MS);
    // A setup whose connection was destroyed may never settle, and must not keep the process from ending.
    timer.unref();
    try {
      await this.setup(model);
    } catch (err) {
      // amqplib would ask the broker to close, and wait for ever if the broker is gone.
      if (this.model === model) await destroy(model, 'setup failed');
      throw err;
    } finally {
      clearTimeout(timer);
    }
  }

  private wentDown(err: Error): void {
    this.brokers?.next();
    if (this.down || this.closing) return;
    this.down = true;
    this.losses.add();
    this.logger.error('RabbitMQ is unavailable; reconnecting', { err });
  }
}

/**
 * Declares the queue and its dead-letter queue, and returns the arguments in use. Publisher and consumer both call it, so
 * that either creates the same queue. An existing queue with other arguments is used as it is, because it cannot be changed
 * without losing its messages.
 */
export async function declareQueue(model: ChannelModel, options: RabbitOptions, logger: Logger): Promise<void> {
  const { queue, queueType } = options;
  await assertQueue(model, logger, deadLetterQueue(queue), { 'x-queue-type': queueType });
  await assertQueue(model, logger, queue, {
    'x-queue-type': queueType,
    'x-max-length': MAX_LENGTH,
    // Not drop-head, the default, which discards confirmed messages.
    'x-overflow': 'reject-publish',
    'x-dead-letter-exchange': '',
    'x-dead-letter-routing-key': deadLetterQueue(queue),
    ...(queueType === 'quorum' && { 'x-delivery-limit': DELIVERY_LIMIT, 'x-dead-letter-strategy': 'at-least-once' }),
  });
}

/** The queue of messages that the consumer rejects. */
export function deadLetterQueue(queue: string): string {
  return `${queue}.dead`;
}

async function assertQueue(
  model: ChannelModel,
  logger: Logger,
  queue: string,
  queueArguments: Record<string, unknown>,
): Promise<void> {
  try {
    await onChannel(model, (channel) => channel.assertQueue(queue, { durable: true, arguments: queueArguments }));
  } catch (err) {
    if ((err as { code?: unknown }).code !== PRECONDITION_FAILED) throw err;
    logger.error('the queue exists with other arguments and is used as it is', { queue, err });
    await onChannel(model, (channel) => channel.checkQueue(queue));
  }
}

/** On its own channel, because the broker closes a channel after an error. */
async function onChannel(model: ChannelModel, work: (channel: Channel) => Promise<unknown>): Promise<void> {
  const channel = await model.createChannel();
  channel.on('error', () => {});
  await work(channel);
  await channel.close();
}

/** Closes a connection, in a bounded time also where the broker does not answer. */
export async function closeConnection(model: ChannelModel): Promise<void> {
  // The promise of amqplib never settles if the socket closes before the broker has answered.
  const closed = new Promise<void>((resolve) => model.once('close', () => resolve()));
  const answered = await within(CLOSE_TIMEOUT_MS, Promise.race([model.close(), closed]));
  if (!answered) await destroy(model, 'close took too long');
}

/**
 * Waits a bounded time for a close. Returns at once if it is closed already.
 *
 * @returns false: the time is over
 */
async function within(ms: number, closing: Promise<void> | undefined): Promise<boolean> {
  let timer: NodeJS.Timeout | undefined;
  const timeout = new Promise<boolean>((resolve) => {
    timer = setTimeout(() => resolve(false), ms);
  });
  const closed = Promise.resolve(closing).then(
    () => true,
    () => true,
  );
  const answered = await Promise.race([closed, timeout]);
  clearTimeout(timer);
  return answered;
}

/**
 * Destroys an open connection without asking the broker. amqplib has no method for that, and its types do not show the
 * stream. Resolves when amqplib has noticed.
 */
async function destroy(model: ChannelModel, reason: string): Promise<void> {
  const closed = new Promise<void>((resolve) => model.once('close', () => resolve()));
  (model.connection as unknown as { stream: Duplex }).stream.destroy(new Error(reason));
  await closed;
}
