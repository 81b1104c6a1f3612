import { expect } from 'chai';
import { isOrigin } from '../../src/limits/origin.js';

describe('an origin', () => {
  it('is http or https, a host, and perhaps a port', () => {
    for (const text of [
      'http://a',
      'https://node-1.example.com:8080',
      'http://10.0.0.1:1',
      'http://[::1]:65535',
      'https://[2001:DB8::1]',
    ]) {
      expect(isOrigin(text), text).to.equal(true);
    }
  });

  it('has no other scheme, no user, no path, and no port that does not exist', () => {
    for (const text of [
      '',
      'a:80',
      'ftp://a',
      'xhttp://a',
      'http://',
      'http://user@a',
      'http://a/',
      'http://a/b',
      'http://a:',
      'http://a:0',
      'http://a:65536',
      'http://a:100000',
      'http://[::1',
      'http://[g::1]',
      `http://${'a'.repeat(254)}`,
    ]) {
      expect(isOrigin(text), text).to.equal(false);
    }
  });
});
