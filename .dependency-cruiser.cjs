// The layers, and what each may import. test/layers.test.ts runs this.
const UNIT_TEST = '\\.test\\.ts$';

/** A layer may import itself and what is listed; nothing else of the project. */
const layer = (name, allowed, { except } = {}) => ({
  name: `layer-${name}`,
  severity: 'error',
  from: { path: `^internal/${name}/`, pathNot: [UNIT_TEST, ...(except ? [except] : [])] },
  to: { path: '^(api|cmd|configs|gen|internal|test)/', pathNot: [`^internal/${name}/`, ...allowed] },
});

const ERRORS = ['^gen/[a-z]+/v1/errors\\.ts$', '^internal/errors/'];

/** @type {import('dependency-cruiser').IConfiguration} */
module.exports = {
  forbidden: [
    { name: 'no-cycles', severity: 'error', from: {}, to: { circular: true } },
    { name: 'nothing-unresolved', severity: 'error', from: {}, to: { couldNotResolve: true } },
    layer('biz', ERRORS),
    layer('data', ['^internal/(biz|conf|errors)/', '^gen/']),
    layer('service', ['^internal/(biz|errors)/', '^gen/']),
    layer('server', ['^internal/(service|biz|conf|errors)/', '^gen/']),
    layer('conf', ['^gen/']),
    layer('errors', ['^gen/']),
    {
      name: 'biz-knows-no-technology',
      comment: 'Ports are in biz, what implements them is not. Its module.ts is where the container meets it.',
      severity: 'error',
      from: { path: '^internal/biz/', pathNot: [UNIT_TEST, '^internal/biz/module\\.ts$'] },
      to: { path: 'node_modules/' },
    },
    {
      name: 'only-wire-builds-containers',
      severity: 'error',
      from: { path: '^(cmd|internal)/', pathNot: [UNIT_TEST, 'module\\.ts$', '^cmd/[a-z]+/wire\\.ts$'] },
      to: { path: 'node_modules/inversify/' },
    },
    {
      name: 'no-tests-in-the-product',
      severity: 'error',
      from: { path: '^(cmd|internal)/', pathNot: UNIT_TEST },
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
    tsPreCompilationDeps: true,
    tsConfig: { fileName: 'tsconfig.json' },
    enhancedResolveOptions: { exportsFields: ['exports'], conditionNames: ['import', 'node', 'default', 'types'] },
  },
};
