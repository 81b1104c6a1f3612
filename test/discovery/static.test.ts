import { expect } from 'chai';
import { StaticDiscovery } from '../../src/membership/discovery.js';

describe('static discovery', () => {
  it('returns each peer of the settings once', async () => {
    const discovery = new StaticDiscovery(['a:1', 'b:2', 'a:1']);
    expect(await discovery.seeds()).to.deep.equal(['a:1', 'b:2']);
    expect(await new StaticDiscovery([]).seeds()).to.deep.equal([]);
  });
});
