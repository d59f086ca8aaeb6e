import assert from 'node:assert/strict';
import { type LogFields, SilentLogger } from '../../kratos/log/logger.js';
import {
  InstanceJobUsecase,
  InstanceReporter,
  type InstanceStateChange,
  type ProvisionedInstance,
  Provisioner,
  type ProvisionOutcome,
  type ReportOutcome,
} from './instance-job.js';
import type { InstanceJob, InstanceLogRepo, InstanceLogStatus, InstanceOutcome } from './instance-log.js';

describe('InstanceJobUsecase', () => {
  /** What was called, in order. */
  let calls: string[];
  let errors: string[];
  let outcome: ProvisionOutcome;
  let removal: () => Promise<void>;
  /** The status that a job has after `settle`. */
  let current: InstanceLogStatus | undefined;
  /** Results that others left. */
  let waiting: InstanceJob[];
  const { signal } = new AbortController();

  class FakeProvisioner extends Provisioner {
    override async create(): Promise<ProvisionOutcome> {
      return outcome;
    }
    override async remove(): Promise<void> {
      await removal();
      calls.push('remove');
    }
    override async list(): Promise<readonly ProvisionedInstance[]> {
      return [];
    }
    override async removeListed(): Promise<void> {}
    override statesOf(): readonly InstanceStateChange[] {
      return [];
    }
    override onChange(): void {}
  }
  class FakeReporter extends InstanceReporter {
    override async report(jobs: readonly InstanceJob[]): Promise<readonly ReportOutcome[]> {
      calls.push('report');
      return jobs.map(() => ({ kind: 'taken' }));
    }
  }
  const logs = {
    settle: async ({ status, reason }: InstanceOutcome) => {
      calls.push(`settle ${status} ${reason}`.trim());
      return current ?? status;
    },
    countAttempt: async (_job: InstanceJob, _reason: string, ms: number) => void calls.push(`retry after ${ms}`),
    release: async () => void calls.push('release'),
    claimToReport: async (limit: number) => waiting.splice(0, limit),
    markReported: async () => void calls.push('reported'),
  } as unknown as InstanceLogRepo;
  const options = { maxAttempts: 3, retryBackoffMs: 100, leaseMs: 1_000 };
  const logger = Object.assign(new SilentLogger(), {
    error: (message: string, fields: LogFields) =>
      void errors.push(`${message}: ${fields.instanceId} ${fields.reason}`),
  });
  const newUsecase = () => new InstanceJobUsecase(logs, new FakeProvisioner(), new FakeReporter(), options, logger);
  const usecase = newUsecase();
  const jobOf = (changes: Partial<InstanceJob> = {}): InstanceJob => ({
    ...{
      id: 1n,
      instanceId: 7n,
      productId: 1n,
      userId: '',
      source: 'ORDER',
      sourceId: '1',
      orderId: 1n,
      name: 'inst-7',
    },
    ...{ size: { cpus: 1, memoryMb: 1, gpu: 0, image: 'i' }, status: 'PROCESSING', reason: '', attempts: 0 },
    ...{ reportAttempts: 0, createdAt: new Date(), updatedAt: new Date(), leaseEndsAt: new Date(), ...changes },
  });

  beforeEach(() => {
    calls = [];
    errors = [];
    outcome = { kind: 'running', address: '10.0.0.7' };
    removal = async () => {};
    current = undefined;
    waiting = [];
  });

  it('reports its own results without claiming them, and those that others left in every fourth batch', async () => {
    const worker = newUsecase();
    for (const id of [1n, 2n, 3n, 4n]) await worker.create(jobOf({ id }), signal);
    waiting = [jobOf({ id: 9n, status: 'SUCCESS' })];
    const batches = [];
    for (let i = 0; i < 6; i++) batches.push((await worker.claimReports(1))?.map((j) => `${j.id} ${j.status}`));
    assert.deepEqual(batches, [['1 SUCCESS'], ['2 SUCCESS'], ['3 SUCCESS'], ['9 SUCCESS'], ['4 SUCCESS'], undefined]);
  });

  it('keeps no result that another worker has overruled', async () => {
    const worker = newUsecase();
    current = 'FAILED';
    await worker.create(jobOf(), signal);
    assert.equal(await worker.claimReports(1), undefined);
  });

  it('keeps a bounded number of results, and leaves the others to any worker', async () => {
    const worker = newUsecase();
    for (let id = 1n; id <= 1_001n; id++) await worker.create(jobOf({ id }), signal);
    assert.equal((await worker.claimReports(2_000))?.length, 1_000);
  });

  it('leaves the results that it has kept to other workers when it stops', async () => {
    const worker = newUsecase();
    await worker.create(jobOf(), signal);
    await worker.leaveReports();
    assert.deepEqual(calls, ['settle SUCCESS', 'release']);
    assert.equal(await worker.claimReports(1), undefined);
  });

  it('removes what may exist of a failed instance before it reports the failure', async () => {
    assert.equal(await usecase.report([jobOf({ status: 'FAILED' })]), undefined);
    assert.deepEqual(calls, ['remove', 'report', 'reported']);
  });

  it('does not report a failure while the removal fails', async () => {
    removal = async () => {
      throw new Error('the cluster does not answer');
    };
    assert.equal(await usecase.report([jobOf({ status: 'FAILED' })]), 'the cluster does not answer');
    assert.deepEqual(calls, []);
  });

  it('removes nothing of a successful instance', async () => {
    await usecase.report([jobOf({ status: 'SUCCESS' })]);
    assert.deepEqual(calls, ['report', 'reported']);
  });

  it('removes its instance when another worker has given up the job meanwhile', async () => {
    current = 'FAILED';
    assert.deepEqual(await usecase.create(jobOf(), signal), { kind: 'taken' });
    assert.deepEqual(calls, ['settle SUCCESS', 'remove']);
  });

  it('removes nothing when it fails a job that another worker has taken over', async () => {
    outcome = { kind: 'failed', reason: 'no such image' };
    for (const other of ['PROCESSING', 'SUCCESS'] as const) {
      current = other;
      await usecase.create(jobOf(), signal);
    }
    assert.deepEqual(calls, ['settle FAILED no such image', 'settle FAILED no such image']);
  });

  it('reports a failed instance as failed, with a line in the log, and an attempt to be repeated as such', async () => {
    outcome = { kind: 'retry', reason: 'timeout' };
    assert.deepEqual(await usecase.create(jobOf(), signal), { kind: 'retry', reason: 'timeout' });
    assert.deepEqual(errors, []);
    const reason = 'gave up after 3 attempts: timeout';
    assert.deepEqual(await usecase.create(jobOf({ attempts: 2 }), signal), { kind: 'failed', reason });
    outcome = { kind: 'failed', reason: 'no such image' };
    assert.deepEqual(await usecase.create(jobOf(), signal), { kind: 'failed', reason: 'no such image' });
    assert.deepEqual(errors, [
      `an instance could not be created: 7 ${reason}`,
      'an instance could not be created: 7 no such image',
    ]);
  });

  it('retries with a growing wait and gives up after the last attempt', async () => {
    outcome = { kind: 'retry', reason: 'timeout' };
    for (const attempts of [0, 1, 2]) await usecase.create(jobOf({ attempts }), signal);
    assert.deepEqual(calls, ['retry after 100', 'retry after 200', 'settle FAILED gave up after 3 attempts: timeout']);
  });

  it('counts no attempt while the provisioner is unavailable', async () => {
    outcome = { kind: 'unavailable', reason: 'down' };
    assert.deepEqual(await usecase.create(jobOf(), signal), { kind: 'unavailable', reason: 'down' });
    assert.deepEqual(calls, ['release']);
  });
});
