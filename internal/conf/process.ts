import { PurchaseReply_Code } from '../../gen/seckill/v1/seckill.js';
import type { ProcessSettings } from '../kratos/app/process.js';
import type { Config } from './config.js';

/** Prefix of all metric names. */
export const METRICS_NAMESPACE = 'kaimai';

/** Request header that asks for the envelope of JSON replies. */
export const ENVELOPE_HEADER = 'X-Kaimai-Envelope';
/** Replies that have a code and a message of their own, with the code that stands for success. */
export const OWN_ENVELOPES: Readonly<Record<string, number>> = {
  'seckill.v1.PurchaseReply': PurchaseReply_Code.QUEUED,
};

/** The name of a process in traces and in service discovery. */
export function serviceName(process: string): string {
  return `kaimai.${process}`;
}

/** What the framework needs to run a process. */
export function processSettings({ server, log, trace }: Config, process: string): ProcessSettings {
  return {
    workers: server.workers === 'auto' ? 'auto' : Number(server.workers),
    replica: server.replica || undefined,
    log,
    tracing: trace.endpoint === '' ? undefined : { ...trace, serviceName: serviceName(process) },
    metricsNamespace: METRICS_NAMESPACE,
    metricsAddr: server.metricsAddr,
    drainDelayMs: server.drainDelayMs,
    stopTimeoutMs: server.stopTimeoutMs,
  };
}

/** The process that serves an RPC service. */
export function processOf(service: string): string {
  return service.startsWith('resource.') ? 'resource' : 'product';
}
