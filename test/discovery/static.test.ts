import { expect } from 'chai';
import { createStaticDiscovery } from '../../src/membership/discovery.js';

describe('static discovery', () => {
  it('returns each peer of the settings once', async () => {
    const discovery = createStaticDiscovery(['a:1', 'b:2', 'a:1']);
    expect(await discovery.seeds()).to.deep.equal(['a:1', 'b:2']);
    expect(await createStaticDiscovery([]).seeds()).to.deep.equal([]);
  });
});
