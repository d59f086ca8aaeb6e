import assert from 'node:assert/strict';
import { formatUserId } from '../../internal/biz/identity.js';
import type { Provisioner } from '../../internal/biz/instance/instance-job.js';
import type { InstanceJob } from '../../internal/biz/instance/instance-log.js';
import { instanceOrder } from '../support/instances.js';
import { freshId } from './backend.js';

/** A working provisioner, and what a test must read without it. */
export interface ProvisionerBackend {
  readonly provisioner: Provisioner;
  /** Whether the job's instance exists, with the job's owner and size. */
  exists(job: InstanceJob): Promise<boolean>;
  close(): Promise<void>;
}

/** The contract of a provisioner. */
export function provisionerContract(name: string, open: () => Promise<ProvisionerBackend>): void {
  describe(`Provisioner ${name}`, () => {
    let backend: ProvisionerBackend;
    let provisioner: Provisioner;

    before(async () => {
      backend = await open();
      provisioner = backend.provisioner;
    });
    after(() => backend.close());

    it('creates an instance once when it is requested repeatedly and concurrently', async () => {
      const job = newJob();
      const outcomes = await Promise.all(Array.from({ length: 20 }, () => provisioner.create(job)));
      for (const outcome of outcomes) assert.deepEqual(outcome, { kind: 'running' });
      assert.deepEqual(await provisioner.create(job), { kind: 'running' });
      assert.ok(await backend.exists(job));
    });

    it('creates many instances concurrently', async () => {
      const jobs = Array.from({ length: 100 }, () => newJob());
      const outcomes = await Promise.all(jobs.map((job) => provisioner.create(job)));
      assert.ok(outcomes.every((o) => o.kind === 'running'));
      for (const job of jobs) assert.ok(await backend.exists(job));
    });

    it('fails for good if another instance has the name, and leaves that instance alone', async () => {
      const job = newJob();
      await provisioner.create(job);
      for (const other of [
        { ...job, userId: formatUserId('666') },
        { ...job, size: { ...job.size, cpus: job.size.cpus + 1 } },
        { ...job, productId: job.productId + 1n },
      ]) {
        assert.equal((await provisioner.create(other)).kind, 'failed');
        await provisioner.remove(other);
        assert.ok(await backend.exists(job));
      }
    });

    it('creates nothing once the lease is over', async () => {
      const job = { ...newJob(), leaseEndsAt: new Date(Date.now() - 60_000) };
      assert.equal((await provisioner.create(job)).kind, 'retry');
      assert.ok(!(await backend.exists(job)));
    });

    it('removes an instance, and accepts one that does not exist', async () => {
      const job = newJob();
      await provisioner.remove(job);
      await provisioner.create(job);
      await provisioner.remove(job);
      assert.ok(!(await backend.exists(job)));
      await provisioner.remove(job);
    });
  });
}

function newJob(): InstanceJob {
  const order = instanceOrder(freshId());
  const now = new Date();
  return {
    ...order,
    id: order.instanceId,
    status: 'PROCESSING',
    reason: '',
    createdAt: now,
    updatedAt: now,
    attempts: 0,
    reportAttempts: 0,
    leaseEndsAt: new Date(now.getTime() + 60_000),
  };
}
