import assert from 'node:assert/strict';
import { internal, invalidArgument, unauthenticated } from '../../gen/common/v1/errors.js';
import { instanceReportConflict, instanceRequestNotFound } from '../../gen/instance/v1/errors.js';
import {
  InstanceRequest,
  InstanceServiceService,
  type ReportInstanceRequest,
  type ReportInstancesReply,
  type ReportInstancesRequest,
  InstanceRequest_Status as Status,
} from '../../gen/instance/v1/instance.js';
import { ALL_REASONS } from '../../gen/reasons.js';
import type { InstanceJob } from '../../internal/biz/instance/instance-log.js';
import { loadDescriptors } from '../../internal/conf/descriptors.js';
import { GrpcInstanceReporter } from '../../internal/data/grpc/product-client.js';
import { deadline } from '../../internal/kratos/middleware/deadline.js';
import { recovery } from '../../internal/kratos/middleware/recovery.js';
import { bindService, Dispatcher } from '../../internal/kratos/transport/dispatcher.js';
import { GrpcClient } from '../../internal/kratos/transport/grpc/client.js';
import { GrpcListener } from '../../internal/kratos/transport/grpc/listener.js';
import { validation } from '../../internal/kratos/transport/validation.js';
import { auth, headerAuthenticator } from '../../internal/server/middleware/auth.js';
import { instanceOrder } from '../support/instances.js';

const TOKEN = 'a-token-for-this-test';

describe('reports to the product domain', () => {
  const { registry } = loadDescriptors();
  let requests: ReportInstanceRequest[];
  let fault: Error | undefined;
  /** The sizes of calls with many reports, the reasons that answer them, and the error that answers them all. */
  let batches: number[];
  let answers: Map<bigint, string>;
  let batchFault: Error | undefined;
  let listener: GrpcListener;
  let client: GrpcClient;

  beforeEach(async () => {
    requests = [];
    fault = undefined;
    batches = [];
    answers = new Map();
    batchFault = undefined;
    const report = async (request: ReportInstanceRequest): Promise<InstanceRequest> => {
      requests.push(request);
      if (fault) throw fault;
      return InstanceRequest.fromPartial({ instanceId: request.instanceId, status: request.status });
    };
    const reportMany = async ({ reports }: ReportInstancesRequest): Promise<ReportInstancesReply> => {
      batches.push(reports.length);
      if (batchFault) throw batchFault;
      return {
        results: reports.map(({ instanceId }) => ({
          instanceId,
          message: 'why',
          reason: answers.get(instanceId) ?? '',
        })),
      };
    };
    const unused = async (): Promise<never> => assert.fail('not asked for');
    const service = {
      createInstance: unused,
      grantInstance: unused,
      getInstanceRequest: unused,
      reportInstance: report,
      reportInstances: reportMany,
    };
    const dispatcher = new Dispatcher(
      registry,
      [bindService(InstanceServiceService, service)],
      [
        recovery(),
        deadline({ grpcTimeoutMs: 5_000, httpTimeoutMs: 5_000 }),
        auth(headerAuthenticator({ internalToken: TOKEN, adminToken: '', bffToken: '', adminByRole: true }), registry),
      ],
      validation(registry),
    );
    listener = new GrpcListener({ addr: '127.0.0.1:0', maxMessageBytes: 65536 }, dispatcher);
    await listener.start();
    client = new GrpcClient({
      addr: `127.0.0.1:${listener.port}`,
      metadata: { 'x-internal-token': TOKEN },
      reasons: ALL_REASONS,
      timeoutMs: 5_000,
    });
  });
  afterEach(async () => {
    client.close();
    await listener.stop(AbortSignal.timeout(2_000));
  });

  const job = (changes: Partial<InstanceJob> = {}) =>
    ({ ...instanceOrder(7n), status: 'SUCCESS', reason: '', ...changes }) as InstanceJob;
  const report = async (of = job()) => (await new GrpcInstanceReporter(client).report([of]))[0]!;

  it('sends a report with its reason, truncated to the maximum length', async () => {
    assert.deepEqual(await report(), { kind: 'taken' });
    assert.deepEqual(await report(job({ status: 'FAILED', reason: '坏'.repeat(2_000) })), { kind: 'taken' });
    assert.deepEqual(requests, [
      { instanceId: 7n, status: Status.SUCCESS, reason: '' },
      { instanceId: 7n, status: Status.FAILED, reason: '坏'.repeat(1_024) },
    ]);
  });

  it('omits the reason of a failed attempt once a later one succeeded', async () => {
    await report(job({ reason: 'stumbled once' }));
    assert.equal(requests[0]?.reason, '');
  });

  for (const [what, error, kind] of [
    ['has no such request', instanceRequestNotFound('no instance request 7'), 'refused'],
    ['has another report', instanceReportConflict('it was FAILED'), 'refused'],
    ['rejects the report as malformed', invalidArgument('nonsense'), 'refused'],
    ['fails internally', internal('oops'), 'retry'],
    ['throws an unknown error', new TypeError('oops'), 'retry'],
    ['rejects the caller', unauthenticated('who?'), 'unavailable'],
  ] as const) {
    it(`returns '${kind}' when the product domain ${what}`, async () => {
      fault = error;
      assert.equal((await report()).kind, kind);
    });
  }

  it('reports the product domain as unavailable if there is no answer', async () => {
    await listener.stop(AbortSignal.timeout(2_000));
    assert.equal((await report()).kind, 'unavailable');
  });

  const reportMany = () =>
    new GrpcInstanceReporter(client).report([1n, 2n, 3n, 4n].map((instanceId) => job({ instanceId })));

  it('sends many reports in one call, of which each has its own outcome', async () => {
    answers.set(2n, 'INSTANCE_REQUEST_NOT_FOUND').set(3n, 'INTERNAL');
    assert.deepEqual(
      (await reportMany()).map((outcome) => outcome.kind),
      ['taken', 'refused', 'retry', 'taken'],
    );
    assert.deepEqual(batches, [4]);
    assert.deepEqual(requests, []);
  });

  for (const [what, error] of [
    ['refused as malformed', invalidArgument('nonsense')],
    ['answered with an unexpected error', new TypeError('oops')],
  ] as const) {
    it(`sends reports one by one after their call was ${what}`, async () => {
      batchFault = error;
      assert.deepEqual(await reportMany(), new Array(4).fill({ kind: 'taken' }));
      assert.equal(requests.length, 4);
    });
  }

  it('sends no single reports to a service that rejects the caller', async () => {
    batchFault = unauthenticated('who?');
    assert.deepEqual(
      (await reportMany()).map((outcome) => outcome.kind),
      new Array(4).fill('unavailable'),
    );
    assert.deepEqual(requests, []);
  });
});
