import assert from 'node:assert/strict';
import fc from 'fast-check';
import { parsePathTemplate } from './path-template.js';
import { Router } from './router.js';

function routerOf(rules: readonly (readonly [method: string, path: string])[]): Router<string> {
  const router = new Router<string>(false);
  for (const [method, path] of rules) router.add(method, parsePathTemplate(path), path, `rpc of ${path}`);
  return router;
}

function found(router: Router<string>, method: string, path: string): string {
  const result = router.find(method, path);
  return result.kind === 'match' ? result.match.route : result.kind;
}

describe('The path template parser', () => {
  const broken: readonly (readonly [template: string, fault: RegExp])[] = [
    ['v1/a', /must begin with "\/"/],
    ['/v1//a', /empty segment/],
    ['/v1/', /empty segment/],
    ['/v1/{a', /"\{" without "\}"/],
    ['/v1/a}', /unexpected|bad segment/],
    ['/v1/{}', /bad field path/],
    ['/v1/{a..b}', /bad field path/],
    ['/v1/{1a}', /bad field path/],
    ['/v1/{a=}', /empty segment/],
    ['/v1/{a=*=*}', /more than one "="/],
    ['/v1/{a={b}}', /bad segment|unexpected/],
    ['/v1/{a}b', /unexpected "b"/],
    ['/v1/a*', /bad segment/],
    ['/v1/***', /bad segment/],
    ['/v1/**/a/**', /more than one "\*\*"/],
    ['/v1/{a=**}/{b=**}', /more than one "\*\*"/],
    ['/v1/{a}/{a}', /bound twice/],
    ['/v1/a:', /bad verb/],
    ['/v1/{a}:', /bad verb/],
    ['/v1/{a}:b/c', /bad verb/],
    ['/v1/a b', /bad segment/],
    ['/v1/a%2', /bad segment/],
    ['/v1/a?b', /bad segment/],
  ];
  for (const [template, fault] of broken) {
    it(`rejects ${template}`, () => assert.throws(() => parsePathTemplate(template), fault));
  }

  it('parses fields, segments and verb', () => {
    const template = parsePathTemplate('/v1/{a.b=x/*}/{c}:do:it');
    assert.deepEqual(template.variables, [
      { fieldPath: ['a', 'b'], start: 1, end: 3, multiSegment: true },
      { fieldPath: ['c'], start: 3, end: 4, multiSegment: false },
    ]);
    assert.equal(template.verb, 'do:it');
  });

  it('accepts the root path', () => assert.deepEqual(parsePathTemplate('/').segments, []));
});

describe('The router', () => {
  const ambiguous: readonly (readonly [a: string, b: string])[] = [
    ['/v1/{a}', '/v1/{b}'],
    ['/v1/{a}', '/v1/*'],
    ['/v1/{a=**}', '/v1/**'],
    ['/v1/x', '/v1/x'],
    ['/v1/{a=x/*}', '/v1/x/{b}'],
    ['/v1/{a}:do', '/v1/{b}:do'],
    ['/v1/%61', '/v1/a'],
  ];
  for (const [a, b] of ambiguous) {
    it(`rejects ${a} next to ${b}, and names both`, () => {
      assert.throws(
        () =>
          routerOf([
            ['GET', a],
            ['GET', b],
          ]),
        (err: Error) => err.message.includes(`rpc of ${a}`) && err.message.includes(`rpc of ${b}`),
      );
      assert.doesNotThrow(() =>
        routerOf([
          ['GET', a],
          ['POST', b],
        ]),
      );
    });
  }

  const rules = [
    ['GET', '/v1/books/featured'],
    ['GET', '/v1/books/{id}'],
    ['POST', '/v1/books/{id}'],
    ['GET', '/v1/{kind}/featured'],
    ['GET', '/v1/{name=**}'],
    ['GET', '/v1/{name=**}/tail'],
    ['GET', '/v1/books/{id}:verb'],
    ['GET', '/v1/{name=**}:verb'],
    ['GET', '/v1/books/{id=pages/*}'],
  ] as const;
  const cases: readonly (readonly [path: string, route: string])[] = [
    ['/v1/books/featured', '/v1/books/featured'],
    ['/v1/books/7', '/v1/books/{id}'],
    ['/v1/films/featured', '/v1/{kind}/featured'],
    ['/v1/films/7', '/v1/{name=**}'],
    ['/v1/films/7/tail', '/v1/{name=**}/tail'],
    ['/v1/tail', '/v1/{name=**}/tail'],
    ['/v1', '/v1/{name=**}'],
    ['/v1/books/7:verb', '/v1/books/{id}:verb'],
    ['/v1/films/7:verb', '/v1/{name=**}:verb'],
    ['/v1/books/featured:other', '/v1/books/{id}'],
    ['/v1/books/pages/3', '/v1/books/{id=pages/*}'],
    ['/v2/books/7', 'not-found'],
    ['/v1/books/%', 'bad-path'],
  ];

  it('finds the most specific route in any order of registration', () => {
    fc.assert(
      fc.property(fc.shuffledSubarray([...rules], { minLength: rules.length }), (shuffled) => {
        const router = routerOf(shuffled);
        for (const [path, route] of cases) assert.equal(found(router, 'GET', path), route, path);
      }),
      { numRuns: 50 },
    );
  });

  it('falls back to a variable if the literal has no such method', () => {
    assert.equal(found(routerOf(rules), 'POST', '/v1/books/featured'), '/v1/books/{id}');
  });

  it('never throws for any path', () => {
    const router = routerOf(rules);
    fc.assert(
      fc.property(fc.array(fc.constantFrom('/', 'v1', 'books', ':', 'verb', '%2F', '%', 'tail', 'é', '*')), (parts) => {
        router.find('GET', parts.join(''));
      }),
    );
  });
});
