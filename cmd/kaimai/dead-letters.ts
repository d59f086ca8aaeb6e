import { Command, InvalidArgumentError } from 'commander';
import { Event } from '../../gen/instance/v1/event.js';
import { type DeadLetter, DeadLetterUsecase, type Resolution } from '../../internal/biz/dead-letter/dead-letter.js';
import { PgQueueDeadLetters, PgStreamDeadLetters } from '../../internal/data/postgres/dead-letter.js';
import { RabbitDeadLetters } from '../../internal/data/rabbitmq/dead-letter.js';
import { table } from '../../internal/local/table.js';
import { openPostgres, openRedis } from './connections.js';
import { serverUrl } from './environment.js';

const DEFAULT_LIMIT = 50;
/** What `replay --all` handles in one go. */
const ALL_LIMIT = 10_000;
const MAX_HEX_BYTES = 2_048;

interface StoreOptions {
  readonly keyPrefix: string;
  readonly queue: string;
}

interface ListOptions extends StoreOptions {
  readonly resolved?: true;
  readonly limit: number;
  readonly json?: true;
}

export const deadLettersCommand = new Command('dead-letters').description(
  'show, replay or drop purchases and instance requests that could not be processed',
);

deadLettersCommand.addCommand(
  subcommand('list')
    .description('list what waits for a decision, newest first')
    .option('--resolved', 'include letters that were replayed or dropped')
    .option('--limit <number>', 'letters of each domain', wholeNumber, DEFAULT_LIMIT)
    .option('--json', 'print JSON instead of text')
    .action((options: ListOptions) =>
      withLetters(options, async (letters) => {
        const found = await letters.list({ includeResolved: options.resolved === true, limit: options.limit });
        console.log(options.json ? json(found) : listText(found));
      }),
    ),
);

deadLettersCommand.addCommand(
  subcommand('show')
    .description('show one letter completely')
    .argument('<id>', 'id from `list`')
    .option('--json', 'print JSON instead of text')
    .action((id: string, options: StoreOptions & { json?: true }) =>
      withLetters(options, async (letters) => {
        const letter = await letters.find(id);
        if (!letter) throw new Error(`there is no dead letter ${id}`);
        console.log(options.json ? json(letter) : letterText(letter));
      }),
    ),
);

deadLettersCommand.addCommand(
  subcommand('replay')
    .description('deliver letters again; a repetition creates no second order or instance')
    .argument('[ids...]', 'ids from `list`')
    .option('--all', `every letter that waits (up to ${ALL_LIMIT} of each domain)`)
    .action((ids: string[], options: StoreOptions & { all?: true }) =>
      withLetters(options, async (letters) => {
        if (ids.length > 0 === (options.all === true)) throw new Error('give either ids or --all');
        const waiting = options.all ? await letters.list({ includeResolved: false, limit: ALL_LIMIT }) : [];
        // Oldest first, as they would have been processed.
        const chosen = options.all ? waiting.map((letter) => letter.id).reverse() : ids;
        if (chosen.length === 0) console.log('no dead letters');
        await resolveEach(chosen, (id) => letters.replay(id));
      }),
    ),
);

deadLettersCommand.addCommand(
  subcommand('drop')
    .description('decide that letters are not to be processed; they stay on record')
    .argument('<ids...>', 'ids from `list`')
    .requiredOption('--reason <text>', 'why, for the record')
    .action((ids: string[], options: StoreOptions & { reason: string }) =>
      withLetters(options, (letters) => resolveEach(ids, (id) => letters.drop(id, options.reason))),
    ),
);

function subcommand(name: string): Command {
  return new Command(name)
    .option('--key-prefix <prefix>', 'data.redis.key_prefix in the configuration of product', '')
    .option('--queue <name>', 'data.rabbitmq.queue in the configuration of resource', 'resource.instance.created');
}

async function withLetters(options: StoreOptions, work: (letters: DeadLetterUsecase) => Promise<void>): Promise<void> {
  const product = openPostgres('dead-letters', 'kaimai_product');
  const resource = openPostgres('dead-letters', 'kaimai_resource');
  const redis = await openRedis(options.keyPrefix);
  const rabbit = new RabbitDeadLetters(serverUrl('RABBITMQ'), options.queue);
  const addEntry = async (itemId: bigint, fields: ReadonlyMap<string, string>) => {
    const { stream } = redis.keys.sale(itemId);
    const streamId = await redis.commands.xadd(stream, '*', ...[...fields].flat());
    if (streamId === null) throw new Error(`XADD ${stream} returned no id`);
    return streamId;
  };
  try {
    const stores = [
      new PgStreamDeadLetters(product, addEntry),
      new PgQueueDeadLetters(resource, (queue, payload) => rabbit.publish(queue, payload)),
      rabbit,
    ];
    await work(new DeadLetterUsecase(stores));
  } finally {
    redis.close();
    await Promise.all([product.close(), resource.close(), rabbit.close()]);
  }
}

async function resolveEach(ids: readonly string[], resolve: (id: string) => Promise<Resolution>): Promise<void> {
  for (const id of ids) {
    const result = await resolve(id);
    if (result.kind === 'not found' || result.kind === 'rejected again') process.exitCode = 1;
    console.log(`${id}: ${resolutionText(result)}`);
  }
}

function resolutionText(result: Resolution): string {
  switch (result.kind) {
    case 'resolved':
      return result.resolution;
    case 'resolved before':
      return `nothing to do: ${result.resolution}`;
    case 'rejected again':
      return `rejected again: ${result.reason}`;
    case 'not found':
      return 'not found';
    default:
      return result satisfies never;
  }
}

function listText(letters: readonly DeadLetter[]): string {
  if (letters.length === 0) return 'no dead letters';
  const rows = letters.map((letter) => [
    letter.id,
    letter.createdAt?.toISOString().slice(0, 19).replace('T', ' ') ?? '',
    letter.origin,
    letter.messageId.slice(0, 24),
    letter.resolvedAt ? letter.resolution : letter.reason,
  ]);
  return table(['id', 'created (UTC)', 'origin', 'message', 'reason'], rows);
}

function letterText(letter: DeadLetter): string {
  const lines = [
    `id          ${letter.id}`,
    `origin      ${letter.origin}`,
    `message     ${letter.messageId}`,
    `created     ${letter.createdAt?.toISOString() ?? 'unknown'}`,
    `reason      ${letter.reason}`,
    `resolution  ${letter.resolvedAt ? `${letter.resolution} (${letter.resolvedAt.toISOString()})` : 'waits'}`,
    'content',
  ];
  const { content } = letter;
  if (content instanceof Uint8Array) {
    lines.push(`  ${content.length} bytes: ${Buffer.from(content.subarray(0, MAX_HEX_BYTES)).toString('hex')}`);
    if (content.length > MAX_HEX_BYTES) lines.push('  … (--json shows all of them)');
    const event = eventOf(content);
    if (event !== undefined) lines.push(`  instance.v1.Event ${JSON.stringify(event)}`);
  } else {
    for (const [name, value] of content) lines.push(`  ${name}: ${value}`);
  }
  return lines.join('\n');
}

/** The message as JSON, if its bytes are an event. */
function eventOf(payload: Uint8Array): unknown {
  try {
    const event = Event.decode(payload);
    return event.eventType === '' ? undefined : Event.toJSON(event);
  } catch {
    return undefined;
  }
}

function json(value: unknown): string {
  const plain = (_: string, item: unknown) => {
    if (item instanceof Map) return Object.fromEntries(item);
    // Buffers arrive as what their toJSON returns.
    const bytes = item as { type?: unknown; data?: unknown } | null;
    if (bytes?.type === 'Buffer' && Array.isArray(bytes.data)) return Buffer.from(bytes.data).toString('hex');
    return item;
  };
  return JSON.stringify(value, plain, 2);
}

function wholeNumber(text: string): number {
  const n = Number(text);
  if (Number.isInteger(n) && n > 0 && n <= ALL_LIMIT) return n;
  throw new InvalidArgumentError(`expected a whole number from 1 to ${ALL_LIMIT}`);
}
