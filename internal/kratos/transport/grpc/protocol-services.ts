import type { FileRegistry } from '@bufbuild/protobuf';
import type { FileDescriptorSet } from '@bufbuild/protobuf/wkt';
import { HealthService } from '../../../../gen/grpc/health/v1/health.js';
import { ServerReflectionService } from '../../../../gen/grpc/reflection/v1/reflection.js';
import { ServerReflectionService as ServerReflectionServiceAlpha } from '../../../../gen/grpc/reflection/v1alpha/reflection.js';
import type { Health } from '../../app/health.js';
import { bindService, type ServiceBinding } from '../dispatcher.js';
import { GrpcHealthService } from './health-service.js';
import { GrpcReflectionService } from './reflection-service.js';

export interface ProtocolServicesOptions {
  readonly descriptors: { readonly registry: FileRegistry; readonly set: FileDescriptorSet };
  /** The services of the application, on which the protocols report. */
  readonly services: readonly ServiceBinding[];
  readonly health: Health;
  /** Whether to serve grpc.reflection. */
  readonly reflection: boolean;
}

/**
 * gRPC's own protocols, health and reflection, as services like any other: their calls pass through the same chain, and
 * so are logged, counted and limited.
 */
export function protocolServices({
  descriptors,
  services,
  health,
  reflection,
}: ProtocolServicesOptions): ServiceBinding[] {
  const own = services.flatMap((s) => Object.values(s.definition).map((m) => m.path.split('/')[1] ?? ''));
  const names = [...new Set([...own, 'grpc.health.v1.Health'])];
  const bindings = [bindService(HealthService, new GrpcHealthService(health, names))];
  if (reflection) {
    names.push('grpc.reflection.v1.ServerReflection', 'grpc.reflection.v1alpha.ServerReflection');
    const implementation = new GrpcReflectionService(descriptors.registry, descriptors.set, names);
    bindings.push(bindService(ServerReflectionService, implementation));
    bindings.push(bindService(ServerReflectionServiceAlpha, implementation));
  }
  return bindings;
}
