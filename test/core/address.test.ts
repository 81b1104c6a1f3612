import { expect } from 'chai';
import { networkOf } from '../../src/lib/address.js';

describe('the network of an address', () => {
  const table: [address: string, network: string][] = [
    ['192.0.2.1', '192.0.2.1'],
    ['192.0.2.1:5678', '192.0.2.1'],
    ['::ffff:192.0.2.1', '192.0.2.1'],
    ['::ffff:c000:201', '192.0.2.1'],
    ['0:0:0:0:0:FFFF:C000:0201', '192.0.2.1'],
    ['[::ffff:192.0.2.1]:5678', '192.0.2.1'],
    ['2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    ['2001:db8:1:2::1', '2001:db8:1:2::/64'],
    ['[2001:db8:1:2::1]', '2001:db8:1:2::/64'],
    ['[2001:db8:1:2::1]:5678', '2001:db8:1:2::/64'],
    ['2001:DB8:1:02:ffff:ffff:ffff:ffff', '2001:db8:1:2::/64'],
    ['2001:db8::1', '2001:db8:0:0::/64'],
    ['2001:db8::1:0:0:0:1', '2001:db8:0:1::/64'],
    ['::1', '0:0:0:0::/64'],
    ['fe80::1%eth0', 'fe80:0:0:0::/64'],
    ['1::', '1:0:0:0::/64'],
    ['64:ff9b::203.0.113.1', '64:ff9b:0:0::/64'],
    ['a-host:5678', 'a-host'],
  ];

  for (const [address, network] of table) {
    it(`is ${network} of ${address}`, () => {
      expect(networkOf(address)).to.equal(network);
    });
  }

  it('is the text itself where that is no address', () => {
    for (const text of [
      '',
      'unknown',
      'a:b',
      '::1::2',
      '1:2:3:4:5:6:7:8:9',
      '12345::',
      '::1.2.3',
      '::1.2.3.4.5',
      '0x7f.1',
      '1',
    ])
      expect(networkOf(text), text).to.equal(text);
  });
});
