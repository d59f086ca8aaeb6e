import { createHash } from 'node:crypto';
import { setTimeout as sleep } from 'node:timers/promises';
import { Batcher } from '../../biz/batcher.js';
import {
  type InstanceStateChange,
  type ProvisionedInstance,
  Provisioner,
  type ProvisionOutcome,
} from '../../biz/instance/instance-job.js';
import type { InstanceJob } from '../../biz/instance/instance-log.js';
import { errorText } from '../../kratos/errors/error-text.js';
import { int4s, int8s, texts, timestamps, uuids } from './column.js';
import type { Postgres, Statement } from './postgres.js';

export interface SimulatorOptions {
  /** Duration of a creation. */
  readonly delayMs: number;
  /** Share of instances that can never be created, from 0 to 1. */
  readonly failureRate: number;
  /** Share of attempts that fail and may be repeated, from 0 to 1. */
  readonly transientFailureRate: number;
}

/** No instance of this image can be created, so that failures can be shown without configuring them. */
const BROKEN_IMAGE = 'broken';
const BATCH_MAX = 256;
const QUEUED_MAX = 10_000;

/** The lease was set by the clock of the database, so that clock judges it. */
const CREATE: Statement = {
  name: 'simulated_instance_create',
  text: `INSERT INTO simulated_instances (name, instance_id, user_id, product_id, cpus, memory_mb, gpu, image)
    SELECT name, instance_id, user_id, product_id, cpus, memory_mb, gpu, image
    FROM unnest($1::text[], $2::bigint[], $3::uuid[], $4::bigint[], $5::int[], $6::int[], $7::int[], $8::text[],
      $9::timestamptz[]) AS t(name, instance_id, user_id, product_id, cpus, memory_mb, gpu, image, lease_ends_at)
    WHERE clock_timestamp() < lease_ends_at
    ORDER BY name
    ON CONFLICT DO NOTHING
    RETURNING name, instance_id, user_id, product_id, cpus, memory_mb, gpu, image`,
};

const FIND: Statement = {
  name: 'simulated_instance_find',
  replan: true,
  text: `SELECT name, instance_id, user_id, product_id, cpus, memory_mb, gpu, image FROM simulated_instances
    WHERE name = ANY ($1::text[])`,
};

const REMOVE: Statement = {
  name: 'simulated_instance_remove',
  text: `DELETE FROM simulated_instances WHERE name = $1 AND instance_id = $2 AND user_id = $3 AND product_id = $4
    AND cpus = $5 AND memory_mb = $6 AND gpu = $7 AND image = $8`,
};

const LIST: Statement = {
  name: 'simulated_instance_list',
  text: `SELECT name, instance_id, user_id, product_id, cpus, memory_mb, gpu, image, created_at FROM simulated_instances
    ORDER BY instance_id`,
};

/** A row of this name that was created later is another instance. */
const REMOVE_LISTED: Statement = {
  name: 'simulated_instance_remove_listed',
  text: `DELETE FROM simulated_instances WHERE name = $1 AND date_trunc('milliseconds', created_at) = $2::timestamptz`,
};

/**
 * A provisioner whose instances are rows of a table. Whether an instance fails depends only on its id, and for transient
 * failures also on the attempt, so that runs are repeatable and a permanent failure stays one.
 */
export class SimulatedProvisioner extends Provisioner {
  private readonly creating: Batcher<InstanceJob, ProvisionOutcome>;

  constructor(
    private readonly db: Postgres,
    private readonly options: SimulatorOptions,
  ) {
    super();
    this.creating = new Batcher({
      name: 'simulated instances',
      run: (jobs) => this.createAll(jobs),
      maxBatch: BATCH_MAX,
      maxConcurrent: 1,
      maxQueued: QUEUED_MAX,
    });
  }

  override async create(job: InstanceJob): Promise<ProvisionOutcome> {
    if (this.options.delayMs > 0) await sleep(this.options.delayMs);
    if (job.size.image === BROKEN_IMAGE)
      return { kind: 'failed', reason: `the image ${BROKEN_IMAGE} cannot be started` };
    const fate = simulatedFate(job.instanceId, job.attempts, this.options);
    if (fate === 'failed') return { kind: 'failed', reason: 'the simulator is configured to fail this instance' };
    if (fate === 'retry') return { kind: 'retry', reason: 'the simulator is configured to fail this attempt' };
    try {
      return await this.creating.add(job);
    } catch (err) {
      return { kind: 'unavailable', reason: errorText(err) };
    }
  }

  override async remove(job: InstanceJob): Promise<void> {
    await this.db.query(REMOVE, [
      job.name,
      job.instanceId,
      job.userId,
      job.productId,
      job.size.cpus,
      job.size.memoryMb,
      job.size.gpu,
      job.size.image,
    ]);
  }

  override async list(): Promise<readonly ProvisionedInstance[]> {
    const { rows } = await this.db.query<InstanceRow & { created_at: Date }>(LIST, []);
    return rows.map((row) => ({
      ...{ name: row.name, instanceId: row.instance_id, userId: row.user_id, productId: row.product_id },
      size: { cpus: row.cpus, memoryMb: row.memory_mb, gpu: row.gpu, image: row.image },
      ...{ createdAt: row.created_at, ready: true, reason: '', address: '', handle: row.created_at.toISOString() },
    }));
  }

  override async removeListed({ name, handle }: ProvisionedInstance): Promise<void> {
    await this.db.query(REMOVE_LISTED, [name, handle]);
  }

  override statesOf(): readonly InstanceStateChange[] {
    return [];
  }

  /** A row changes only through this class. */
  override onChange(): void {}

  private async createAll(jobs: readonly InstanceJob[]): Promise<readonly ProvisionOutcome[]> {
    const created = await this.db.query<InstanceRow>(CREATE, [
      texts(jobs, (j) => j.name),
      int8s(jobs, (j) => j.instanceId),
      uuids(jobs, (j) => j.userId),
      int8s(jobs, (j) => j.productId),
      int4s(jobs, (j) => j.size.cpus),
      int4s(jobs, (j) => j.size.memoryMb),
      int4s(jobs, (j) => j.size.gpu),
      texts(jobs, (j) => j.size.image),
      timestamps(jobs, (j) => j.leaseEndsAt),
    ]);
    const standing = new Map(created.rows.map((row) => [row.name, row]));
    const others = jobs.filter((j) => !standing.has(j.name)).map((j) => j.name);
    if (others.length > 0) {
      const { rows } = await this.db.query<InstanceRow>(FIND, [others]);
      for (const row of rows) standing.set(row.name, row);
    }
    return jobs.map((job) => {
      const row = standing.get(job.name);
      if (!row) return { kind: 'retry', reason: 'the lease ended before the instance was created' };
      if (isOf(row, job)) return { kind: 'running', address: '' };
      return { kind: 'failed', reason: `the name ${job.name} is taken by another instance` };
    });
  }
}

/** The fate of an attempt. */
export function simulatedFate(
  instanceId: bigint,
  attempts: number,
  rates: Pick<SimulatorOptions, 'failureRate' | 'transientFailureRate'>,
): 'running' | 'failed' | 'retry' {
  if (draw(`${instanceId}`) < rates.failureRate) return 'failed';
  if (draw(`${instanceId} ${attempts}`) < rates.transientFailureRate) return 'retry';
  return 'running';
}

/** Evenly distributed over 0 ≤ x < 1; the same for the same text. */
function draw(text: string): number {
  return createHash('sha256').update(text).digest().readUInt32BE(0) / 2 ** 32;
}

interface InstanceRow {
  name: string;
  instance_id: bigint;
  user_id: string;
  product_id: bigint;
  cpus: number;
  memory_mb: number;
  gpu: number;
  image: string;
}

function isOf(row: InstanceRow, job: InstanceJob): boolean {
  return (
    row.instance_id === job.instanceId &&
    row.user_id === job.userId &&
    row.product_id === job.productId &&
    row.cpus === job.size.cpus &&
    row.memory_mb === job.size.memoryMb &&
    row.gpu === job.size.gpu &&
    row.image === job.size.image
  );
}
