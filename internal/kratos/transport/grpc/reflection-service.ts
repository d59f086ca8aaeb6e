import type { FileRegistry } from '@bufbuild/protobuf';
import { toBinary } from '@bufbuild/protobuf';
import { type FileDescriptorProto, FileDescriptorProtoSchema, type FileDescriptorSet } from '@bufbuild/protobuf/wkt';
import type {
  ServerReflectionRequest,
  ServerReflectionResponse,
  ServerReflectionService,
} from '../../../../gen/grpc/reflection/v1/reflection.js';
import type { ServiceOf } from '../call-context.js';

const NOT_FOUND = 5;
const INVALID_ARGUMENT = 3;

type Answer = ServerReflectionResponse['messageResponse'];

/**
 * grpc.reflection, from the descriptor set that the compiler wrote: each answer contains a file and all its imports,
 * which strict clients need (descriptors rebuilt from loaded types lose the imports). v1 and v1alpha have the same
 * messages, so one implementation serves both.
 */
export class GrpcReflectionService implements ServiceOf<typeof ServerReflectionService> {
  private readonly files: ReadonlyMap<string, FileDescriptorProto>;

  constructor(
    private readonly registry: FileRegistry,
    set: FileDescriptorSet,
    private readonly services: readonly string[],
  ) {
    this.files = new Map(set.file.map((f) => [f.name, f]));
  }

  async *serverReflectionInfo(
    requests: AsyncIterable<ServerReflectionRequest>,
  ): AsyncGenerator<ServerReflectionResponse> {
    for await (const request of requests) {
      yield { validHost: request.host, originalRequest: request, messageResponse: this.answer(request) };
    }
  }

  private answer({ messageRequest: asked }: ServerReflectionRequest): Answer {
    switch (asked?.$case) {
      case 'listServices':
        return {
          $case: 'listServicesResponse',
          value: { service: [...this.services].sort().map((name) => ({ name })) },
        };
      case 'fileByFilename':
        return this.files.has(asked.value) ? this.file(asked.value) : missing(`file ${asked.value}`);
      case 'fileContainingSymbol': {
        const file = this.fileOf(asked.value);
        return file === undefined ? missing(`symbol ${asked.value}`) : this.file(file);
      }
      case 'fileContainingExtension': {
        const { containingType, extensionNumber } = asked.value;
        const type = this.registry.getMessage(containingType);
        const extension = type && this.registry.getExtensionFor(type, extensionNumber);
        return extension ? this.file(protoName(extension.file.name)) : missing(`extension ${extensionNumber}`);
      }
      case 'allExtensionNumbersOfType': {
        const extensionNumber: number[] = [];
        for (const type of this.registry) {
          if (type.kind === 'extension' && type.extendee.typeName === asked.value) extensionNumber.push(type.number);
        }
        if (!this.registry.getMessage(asked.value)) return missing(`type ${asked.value}`);
        return { $case: 'allExtensionNumbersResponse', value: { baseTypeName: asked.value, extensionNumber } };
      }
      case undefined:
        return {
          $case: 'errorResponse',
          value: { errorCode: INVALID_ARGUMENT, errorMessage: 'message_request must be set' },
        };
    }
  }

  /** The file of a type, service, extension, method, field or enum value. */
  private fileOf(symbol: string): string | undefined {
    const type = this.registry.get(symbol);
    if (type) return protoName(type.file.name);
    const dot = symbol.lastIndexOf('.');
    const parent = dot < 0 ? undefined : this.registry.get(symbol.slice(0, dot));
    const name = symbol.slice(dot + 1);
    switch (parent?.kind) {
      case 'service':
        return parent.methods.some((m) => m.name === name) ? protoName(parent.file.name) : undefined;
      case 'message':
        if ([...parent.fields, ...parent.oneofs].some((f) => f.name === name)) return protoName(parent.file.name);
        break;
      default:
        break;
    }
    // The values of an enum are in the scope that contains the enum.
    const scope = symbol.slice(0, Math.max(dot, 0));
    for (const t of this.registry) {
      const around = t.kind === 'enum' ? (t.parent?.typeName ?? t.file.proto.package) : undefined;
      if (t.kind === 'enum' && around === scope && t.values.some((v) => v.name === name)) return protoName(t.file.name);
    }
    return undefined;
  }

  private file(name: string): Answer {
    const found = new Map<string, Buffer>();
    const add = (n: string) => {
      const file = this.files.get(n);
      if (!file || found.has(n)) return;
      found.set(n, Buffer.from(toBinary(FileDescriptorProtoSchema, file)));
      for (const dependency of file.dependency) add(dependency);
    };
    add(name);
    return { $case: 'fileDescriptorResponse', value: { fileDescriptorProto: [...found.values()] } };
  }
}

function missing(what: string): Answer {
  return { $case: 'errorResponse', value: { errorCode: NOT_FOUND, errorMessage: `unknown ${what}` } };
}

/** The names of DescFile have no extension. */
function protoName(name: string): string {
  return `${name}.proto`;
}
