import { expect } from 'chai';
import { createStaticDiscovery } from '../../src/discovery/static.js';

describe('static discovery', () => {
  it('names the peers of the settings, each once', async () => {
    const discovery = createStaticDiscovery(['a:1', 'b:2', 'a:1']);
    expect(await discovery.seeds()).to.deep.equal(['a:1', 'b:2']);
    expect(await createStaticDiscovery([]).seeds()).to.deep.equal([]);
  });
});
