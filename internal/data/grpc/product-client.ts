import { INVALID_ARGUMENT } from '../../../gen/common/v1/errors.js';
import { INSTANCE_REPORT_CONFLICT, INSTANCE_REQUEST_NOT_FOUND } from '../../../gen/instance/v1/errors.js';
import {
  InstanceServiceService,
  type ReportInstanceRequest,
  type ReportInstancesReply_Result,
  InstanceRequest_Status as Status,
} from '../../../gen/instance/v1/instance.js';
import { InstanceReporter, type ReportOutcome } from '../../biz/instance/instance-job.js';
import type { InstanceJob } from '../../biz/instance/instance-log.js';
import { hasReason, KratosError } from '../../kratos/errors/error.js';
import type { GrpcClient } from '../../kratos/transport/grpc/client.js';
import { storableText } from '../postgres/text.js';

const REASON_MAX = 1024;
/** In a call for many. */
const SHORT_REASON_MAX = 240;
/** This report will never be accepted, however often it is repeated. */
const REFUSALS = [INSTANCE_REQUEST_NOT_FOUND, INSTANCE_REPORT_CONFLICT, INVALID_ARGUMENT];
/** UNKNOWN and INTERNAL: the service failed on this report, but may not fail on the next. */
const STUMBLED = new Set([2, 13]);

/** The service or the way to it fails, or it rejects this caller: another call would fare no better. */
const UNREACHABLE = new Set([4, 7, 14, 16]);

/** Reports to the product domain's InstanceService. */
export class GrpcInstanceReporter extends InstanceReporter {
  constructor(private readonly product: GrpcClient) {
    super();
  }

  /**
   * Many go in one call. If the call is refused as a whole, they go one by one: one of them may be at fault, they may be
   * too long together, or the service may be of a version that takes single reports only.
   */
  override async report(jobs: readonly InstanceJob[]): Promise<readonly ReportOutcome[]> {
    if (jobs.length === 1) return Promise.all(jobs.map((job) => this.reportOne(job)));
    try {
      const { results } = await this.product.call(InstanceServiceService.reportInstances, {
        reports: jobs.map((job) => requestOf(job, SHORT_REASON_MAX)),
      });
      return jobs.map((_, i) => outcomeOf(results[i]));
    } catch (err) {
      if (!(err instanceof KratosError)) throw err;
      const reason = `${err.reason}: ${err.message}`;
      if (UNREACHABLE.has(err.grpcCode)) return jobs.map(() => ({ kind: 'unavailable', reason }));
      const outcomes: ReportOutcome[] = [];
      for (const job of jobs) outcomes.push(await this.reportOne(job));
      return outcomes;
    }
  }

  private async reportOne(job: InstanceJob): Promise<ReportOutcome> {
    try {
      await this.product.call(InstanceServiceService.reportInstance, requestOf(job, REASON_MAX));
      return { kind: 'taken' };
    } catch (err) {
      if (!(err instanceof KratosError)) throw err;
      const reason = `${err.reason}: ${err.message}`;
      if (REFUSALS.some((refusal) => hasReason(err, refusal))) return { kind: 'refused', reason };
      return { kind: STUMBLED.has(err.grpcCode) ? 'retry' : 'unavailable', reason };
    }
  }
}

function requestOf(job: InstanceJob, reasonMax: number): ReportInstanceRequest {
  const created = job.status === 'SUCCESS';
  return {
    instanceId: job.instanceId,
    status: created ? Status.SUCCESS : Status.FAILED,
    reason: created ? '' : storableText(job.reason, reasonMax),
  };
}

function outcomeOf(result: ReportInstancesReply_Result | undefined): ReportOutcome {
  if (!result) return { kind: 'retry', reason: 'the product domain did not answer this report' };
  if (result.reason === '') return { kind: 'taken' };
  const reason = `${result.reason}: ${result.message}`;
  return { kind: REFUSALS.some((refusal) => refusal.reason === result.reason) ? 'refused' : 'retry', reason };
}
