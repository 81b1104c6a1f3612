import { expect } from 'chai';
import { networkOf } from '../../src/core/address.js';

describe('whose an address is', () => {
  const table: [prefixBits: number, address: string, network: string][] = [
    [64, '192.0.2.1', '192.0.2.1'],
    [64, '::ffff:192.0.2.1', '192.0.2.1'],
    [64, '2001:db8:1:2:3:4:5:6', '2001:db8:1:2::/64'],
    [64, '2001:db8:1:2::1', '2001:db8:1:2::/64'],
    [64, '2001:DB8:1:02:ffff:ffff:ffff:ffff', '2001:db8:1:2::/64'],
    [64, '2001:db8::1', '2001:db8:0:0::/64'],
    [64, '2001:db8::1:0:0:0:1', '2001:db8:0:1::/64'],
    [64, '::1', '0:0:0:0::/64'],
    [64, 'fe80::1%eth0', 'fe80:0:0:0::/64'],
    [64, '1::', '1:0:0:0::/64'],
    [56, '2001:db8:1:2ff:ffff::2', '2001:db8:1:200::/56'],
    [56, '2001:db8:1:2:3:4:5:6', '2001:db8:1:0::/56'],
    [56, '64:ff9b::203.0.113.1', '64:ff9b:0:0::/56'],
    [128, '64:ff9b::203.0.113.1', '64:ff9b:0:0:0:0:cb00:7101::/128'],
  ];

  for (const [prefixBits, address, network] of table) {
    it(`is ${network} of ${address}, by ${prefixBits} bits`, () => {
      expect(networkOf(address, prefixBits)).to.equal(network);
    });
  }

  it('leaves what is no address as it is', () => {
    for (const text of ['', 'unknown', 'a:b', '::1::2', '1:2:3:4:5:6:7:8:9', '12345::', '::1.2.3', '::1.2.3.4.5']) {
      expect(networkOf(text, 64), text).to.equal(text);
    }
  });
});
