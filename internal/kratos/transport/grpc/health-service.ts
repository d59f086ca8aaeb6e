import type {
  HealthCheckRequest,
  HealthListRequest,
  HealthListResponse,
  HealthService,
} from '../../../../gen/grpc/health/v1/health.js';
import {
  type HealthCheckResponse,
  HealthCheckResponse_ServingStatus as Status,
} from '../../../../gen/grpc/health/v1/health.js';
import type { Health } from '../../app/health.js';
import { KratosError } from '../../errors/error.js';
import type { CallContext, ServiceOf } from '../call-context.js';

/** The service name for liveness probes, which do not depend on the state of dependencies. */
export const LIVENESS = 'liveness';

/** grpc.health.v1: "" and every bound service are SERVING while the process is ready. */
export class GrpcHealthService implements ServiceOf<typeof HealthService> {
  private readonly names: ReadonlySet<string>;

  constructor(
    private readonly health: Health,
    services: readonly string[],
  ) {
    this.names = new Set(['', ...services]);
  }

  async check(request: HealthCheckRequest): Promise<HealthCheckResponse> {
    const status = this.statusOf(request.service);
    if (status === Status.SERVICE_UNKNOWN) {
      throw new KratosError(
        { reason: 'SERVICE_UNKNOWN', domain: 'grpc.health.v1', httpCode: 404, grpcCode: 5 },
        `unknown service ${request.service}`,
      );
    }
    return { status };
  }

  async list(_: HealthListRequest): Promise<HealthListResponse> {
    const names = [...this.names, LIVENESS];
    return { statuses: Object.fromEntries(names.map((n) => [n, { status: this.statusOf(n) }])) };
  }

  async *watch(request: HealthCheckRequest, ctx: CallContext): AsyncGenerator<HealthCheckResponse> {
    let told: Status | undefined;
    while (!ctx.signal.aborted) {
      const status = this.statusOf(request.service);
      if (status !== told) {
        told = status;
        yield { status };
        continue;
      }
      await new Promise<void>((resolve) => {
        const off = this.health.onChange(done);
        ctx.signal.addEventListener('abort', done, { once: true });
        function done() {
          off();
          resolve();
        }
        if (ctx.signal.aborted) done();
      });
    }
  }

  private statusOf(service: string): Status {
    if (service === LIVENESS) return Status.SERVING;
    if (!this.names.has(service)) return Status.SERVICE_UNKNOWN;
    return this.health.ready ? Status.SERVING : Status.NOT_SERVING;
  }
}
