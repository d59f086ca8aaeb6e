import assert from 'node:assert/strict';
import { clone, create, createFileRegistry, type FileRegistry } from '@bufbuild/protobuf';
import { FileDescriptorProtoSchema, FileDescriptorSetSchema, type MethodDescriptorProto } from '@bufbuild/protobuf/wkt';
import type { OwnEnvelopes } from './envelope.js';
import { JsonToWire } from './json-to-wire.js';
import { parsePathTemplate } from './path-template.js';
import { RequestBinder } from './request-binder.js';
import { compileRoutes } from './routes.js';
import { LIBRARY, libraryRegistry, messageType } from './testdata/library.js';
import { WireWriter } from './wire-writer.js';

const binderOptions = {
  codec: new JsonToWire(libraryRegistry(), false),
  writer: new WireWriter(),
  strictQuery: false,
  maxJsonDepth: 32,
  maxQueryParameters: 256,
};

/** The library with its service changed. */
function changed(change: (methods: MethodDescriptorProto[]) => void): FileRegistry {
  const file = [...libraryRegistry().files].map((desc) => clone(FileDescriptorProtoSchema, desc.proto));
  const service = file.flatMap((proto) => proto.service).find((candidate) => candidate.name === 'LibraryService')!;
  change(service.method);
  return createFileRegistry(create(FileDescriptorSetSchema, { file }));
}

function compile(registry: FileRegistry, procedures = false, ownEnvelopes: OwnEnvelopes = {}): readonly string[] {
  const table = compileRoutes({
    registry,
    services: [LIBRARY],
    strictQuery: false,
    strictBody: false,
    fullyDecodeReservedExpansion: false,
    maxJsonDepth: 32,
    maxQueryParameters: 256,
    procedures,
    ownEnvelopes,
  });
  return table.routes.map((route) => `${route.httpMethod} ${route.path} ${route.operation}`);
}

describe('Compiling routes', () => {
  it('lists every binding, and none for an RPC without a rule', () => {
    const routes = compile(libraryRegistry());
    assert.ok(routes.includes(`GET /v1/shelves/{shelf}/books/{id} /${LIBRARY}/GetBook`));
    assert.ok(routes.includes(`PURGE /v1/cache/{id} /${LIBRARY}/Purge`));
    assert.ok(routes.every((route) => !route.endsWith('/Internal')));
  });

  it('rejects two RPCs that match the same requests, and names both', () => {
    const registry = changed((methods) => {
      const twin = structuredClone(methods.find((method) => method.name === 'CreateBook')!);
      methods.push({ ...twin, name: 'CreateBookToo' });
    });
    assert.throws(() => compile(registry), /ambiguous routes: .*CreateBookToo.* and .*CreateBook\b/);
  });

  it('rejects a reply that is said to have a code of its own and has none', () => {
    const [reply] = [...libraryRegistry()].filter((d) => d.kind === 'message' && d.name === 'Book');
    assert.ok(reply);
    assert.throws(() => compile(libraryRegistry(), false, { [reply.typeName]: 1 }), /Book has no enum field code/);
  });

  it('rejects a rule on a client stream', () => {
    const registry = changed((methods) => {
      methods.find((method) => method.name === 'CreateBook')!.clientStreaming = true;
    });
    assert.throws(() => compile(registry), /CreateBook: a client stream cannot have an http rule/);
  });

  it('rejects a rule with fields that the message does not have', () => {
    const registry = changed((methods) => {
      methods.find((method) => method.name === 'UpdateBook')!.inputType = '.transcoder.test.v1.GetFileRequest';
    });
    assert.throws(() => compile(registry), /UpdateBook: body: transcoder\.test\.v1\.GetFileRequest has no field book/);
  });

  it('rejects a response_body that does not exist', () => {
    const registry = changed((methods) => {
      methods.find((method) => method.name === 'ListTitles')!.outputType = '.transcoder.test.v1.Book';
    });
    assert.throws(() => compile(registry), /ListTitles: response_body: transcoder\.test\.v1\.Book has no field titles/);
  });

  const misfits: readonly (readonly [body: string, path: string, fault: RegExp])[] = [
    ['', '/{nope}', /path: .* has no field nope/],
    ['', '/{nested.nope}', /has no field nested\.nope/],
    ['', '/{int32_value.x}', /has no field int32_value\.x/],
    ['', '/{int32_list}', /int32_list .* cannot be bound to a path/],
    ['', '/{int32_map}', /int32_map .* cannot be bound to a path/],
    ['', '/{nested}', /nested .* cannot be bound to a path/],
    ['nope', '/', /body: .* has no field nope/],
    ['nested.string_value', '/', /has no field nested\.string_value/],
    ['string_value', '/{string_value}', /bound to both path and body/],
  ];
  for (const [body, path, fault] of misfits) {
    it(`rejects path ${path} with body "${body}"`, () => {
      const { variables } = parsePathTemplate(path);
      assert.throws(
        () => new RequestBinder(messageType('Everything'), { httpMethod: 'POST', body }, variables, binderOptions),
        fault,
      );
    });
  }
});
