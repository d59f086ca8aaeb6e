import { INVALID_ARGUMENT } from '../../../gen/common/v1/errors.js';
import { INSTANCE_REPORT_CONFLICT, INSTANCE_REQUEST_NOT_FOUND } from '../../../gen/instance/v1/errors.js';
import { InstanceServiceService, InstanceRequest_Status as Status } from '../../../gen/instance/v1/instance.js';
import { InstanceReporter, type ReportOutcome } from '../../biz/instance/instance-job.js';
import type { InstanceJob } from '../../biz/instance/instance-log.js';
import { hasReason, KratosError } from '../../kratos/errors/error.js';
import type { GrpcClient } from '../../kratos/transport/grpc/client.js';
import { storableText } from '../postgres/text.js';

const REASON_MAX = 1024;
/** This report will never be accepted, however often it is repeated. */
const REFUSALS = [INSTANCE_REQUEST_NOT_FOUND, INSTANCE_REPORT_CONFLICT, INVALID_ARGUMENT];
/** UNKNOWN and INTERNAL: the service failed on this report, but may not fail on the next. */
const STUMBLED = new Set([2, 13]);

/** Reports to the product domain's InstanceService. */
export class GrpcInstanceReporter extends InstanceReporter {
  constructor(private readonly product: GrpcClient) {
    super();
  }

  override async report(job: InstanceJob): Promise<ReportOutcome> {
    const request = {
      instanceId: job.instanceId,
      status: job.status === 'SUCCESS' ? Status.SUCCESS : Status.FAILED,
      reason: job.status === 'SUCCESS' ? '' : storableText(job.reason, REASON_MAX),
    };
    try {
      await this.product.call(InstanceServiceService.reportInstance, request);
      return { kind: 'taken' };
    } catch (err) {
      if (!(err instanceof KratosError)) throw err;
      const reason = `${err.reason}: ${err.message}`;
      if (REFUSALS.some((refusal) => hasReason(err, refusal))) return { kind: 'refused', reason };
      return { kind: STUMBLED.has(err.grpcCode) ? 'retry' : 'unavailable', reason };
    }
  }
}
