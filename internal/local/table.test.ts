import assert from 'node:assert/strict';
import { table } from './table.js';

describe('table', () => {
  it('aligns columns without borders and counts wide characters as two columns', () => {
    assert.equal(table(['name', 'n'], []), 'NAME  N');
    const rows = [
      ['开卖', '1'],
      ['abcde', '22'],
    ];
    assert.equal(table(['name', 'n'], rows), 'NAME   N\n开卖   1\nabcde  22');
  });
});
