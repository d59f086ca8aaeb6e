// The layers, and what each may import. test/layers.test.ts runs this.
const UNIT_TEST = '\\.test\\.ts$';
const TEST_DATA = '/testdata/';

/** A layer may import itself and what is listed; nothing else of the project. */
const layer = (name, allowed) => ({
  name: `layer-${name}`,
  severity: 'error',
  from: { path: `^internal/${name}/`, pathNot: [UNIT_TEST, TEST_DATA] },
  to: { path: '^(api|bench|cmd|configs|gen|internal|test)/', pathNot: [`^internal/${name}/`, ...allowed] },
});

const KRATOS = '^internal/kratos/';
/** The generated code of gRPC's, Google's and Kratos' own protos. */
const FOREIGN_PROTOS = '^gen/(errors/|google/|grpc/)';

/** Where the object graph is declared and built. */
const WIRING = ['^internal/[a-z]+/[a-z]+-module\\.ts$', '^internal/kratos/app/wiring\\.ts$', '^cmd/[a-z]+/wire\\.ts$'];

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    { name: 'nothing-unresolved', severity: 'error', from: {}, to: { couldNotResolve: true } },
    layer('kratos', [FOREIGN_PROTOS]),
    layer('biz', ['^gen/[a-z]+/v1/errors\\.ts$', '^internal/kratos/(errors|log|tracing)/', '^internal/kratos/app/(token|wiring)\\.ts$']),
    layer('data', ['^internal/(biz|conf)/', KRATOS, '^gen/']),
    layer('service', ['^internal/biz/', KRATOS, '^gen/']),
    layer('server', ['^internal/(service|biz|conf)/', KRATOS, '^gen/']),
    layer('conf', [KRATOS, '^gen/']),
    layer('local', ['^internal/(conf|data)/', KRATOS]),
    {
      name: 'clients-need-only-the-protos',
      comment: 'Programs outside this project use the clients beside the protos.',
      severity: 'error',
      from: { path: '^api/' },
      to: { path: '^(bench|cmd|configs|internal|test)/' },
    },
    {
      name: 'biz-knows-no-technology',
      comment: 'Ports are in biz, what implements them is not. Its modules are where the container meets it.',
      severity: 'error',
      from: { path: '^internal/biz/', pathNot: [UNIT_TEST, '^internal/biz/[a-z]+-module\\.ts$'] },
      to: { path: 'node_modules/' },
    },
    {
      name: 'only-wire-builds-containers',
      severity: 'error',
      from: { path: '^(cmd|internal)/', pathNot: [UNIT_TEST, '^internal/kratos/app/wiring\\.ts$', '^cmd/[a-z]+/wire\\.ts$'] },
      to: { path: 'node_modules/inversify/' },
    },
    {
      name: 'only-modules-declare-providers',
      severity: 'error',
      from: { path: '^(cmd|internal)/', pathNot: [UNIT_TEST, ...WIRING] },
      to: { path: '^internal/kratos/app/wiring\\.ts$' },
    },
    {
      name: 'no-imports-of-commands',
      comment: 'What a command shares with tests and the bench is in internal/local.',
      severity: 'error',
      from: { path: '^(bench|internal|test)/' },
      to: { path: '^cmd/' },
    },
    {
      name: 'no-tests-in-the-product',
      severity: 'error',
      from: { path: '^(cmd|internal)/', pathNot: [UNIT_TEST, TEST_DATA] },
      to: { path: [UNIT_TEST, '^test/'] },
    },
    {
      name: 'no-development-packages-in-the-product',
      severity: 'error',
      from: { path: '^(cmd|internal)/', pathNot: [UNIT_TEST, '^cmd/protoc-gen-errors/'] },
      to: { dependencyTypes: ['npm-dev', 'npm-no-pkg', 'npm-unknown'] },
    },
  ],
  options: {
    doNotFollow: { path: 'node_modules' },
    exclude: { path: '^bench/peers/' },
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default', 'types'] },
  },
};
