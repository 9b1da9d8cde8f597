import { isIP, isIPv4 } from 'node:net'
import * as fc from 'fast-check'
import { describe, expect, it } from 'vitest'
import { addressRefusal, hostRefusal, parseAddress } from '../../src/net/guard.ts'

const rules = { refused: ['10.96.0.1', 'kubernetes.default.svc', '192.168.49.0/24', 'fd00:10:96::1'] }

describe('T11 the address guard refuses', () => {
  it.each([
    '169.254.169.254',
    '169.254.1.1',
    '2852039166',
    '0xa9fea9fe',
    '0xA9.0xFE.0xA9.0xFE',
    '0251.0376.0251.0376',
    '025177524776',
    '169.254.43518',
    '169.16689662',
    '169.254.169.254.',
    '[::ffff:169.254.169.254]',
    '::ffff:a9fe:a9fe',
    '::ffff:0:169.254.169.254',
    '0:0:0:0:0:ffff:a9fe:a9fe',
    '::169.254.169.254',
    '64:ff9b::169.254.169.254',
    '64:ff9b::a9fe:a9fe',
    '64:ff9b:1::1',
    '2002:a9fe:a9fe::1',
    '2001:0:1:2:3:4:5:6',
    'fe80::5efe:169.254.169.254',
    '2001:db8::5efe:7f00:1',
    '2001:db8::200:5efe:7f00:1',
    'fd00:ec2::254',
    'fd20:ce::254',
    '168.63.129.16',
    '100.100.100.200',
    '192.0.0.192',
    '127.0.0.1',
    '127.1',
    '127.255.255.254',
    '0x7f000001',
    '017700000001',
    '2130706433',
    '0',
    '0.0.0.0',
    '0.1.2.3',
    '::',
    '::1',
    '0:0:0:0:0:0:0:1',
    '::ffff:127.0.0.1',
    '::127.0.0.1',
    '2002:7f00:1::',
    'fe80::1',
    'fe80::1%eth0',
    'febf::1',
    'fec0::1',
    'ff02::1',
    '224.0.0.1',
    '239.255.255.250',
    '255.255.255.255',
    '240.0.0.1',
    'localhost',
    'LOCALHOST.',
    'api.localhost',
    '',
    '10.96.0.1',
    '::ffff:10.96.0.1',
    '0x0a600001',
    'fd00:10:96::1',
    'fd00:10:96:0:0:0:0:1',
    '192.168.49.77',
    'kubernetes.default.svc',
    'Kubernetes.Default.Svc.',
  ])('%s', (host) => {
    expect(hostRefusal(host, rules)).toBeTypeOf('string')
  })
})

describe('the address guard lets through', () => {
  it.each([
    '1.1.1.1',
    '10.0.0.7',
    '172.16.0.1',
    '192.168.50.1',
    '100.64.0.1',
    '169.253.255.255',
    '169.255.0.0',
    '126.255.255.255',
    '128.0.0.1',
    '223.255.255.255',
    '2606:4700::1111',
    '[2606:4700::1111]',
    'fd00::1',
    '::ffff:10.0.0.7',
    '64:ff9b::1.1.1.1',
    'vault.internal',
    'vault.example.com.',
    'notlocalhost',
    'kubernetes.default.svc.example.com',
    '1.2.3.4.5',
    '0x7f000001.example.com',
  ])('%s', (host) => {
    expect(hostRefusal(host, rules)).toBeUndefined()
  })
})

describe('addresses', () => {
  it('read back what a socket library calls an address', () => {
    fc.assert(
      fc.property(fc.oneof(fc.ipV4(), fc.ipV6()), (text) => {
        const parsed = parseAddress(text)
        expect(parsed?.family).toBe(isIP(text))
        const canonical = new URL(`http://${isIPv4(text) ? text : `[${text}]`}/`).hostname
        expect(parseAddress(canonical)).toEqual(parsed)
      }),
    )
  })

  it('agree with the URL standard on the numeric spellings of IPv4', () => {
    const part = fc.oneof(fc.nat(300), fc.nat(70_000), fc.nat(2 ** 32 - 1))
    const spell = fc.tuple(part, fc.constantFrom(8, 10, 16)).map(([value, radix]) => {
      return { 8: '0', 10: '', 16: '0x' }[radix] + value.toString(radix)
    })
    fc.assert(
      fc.property(fc.array(spell, { minLength: 1, maxLength: 5 }), (parts) => {
        const text = parts.join('.')
        const url = URL.canParse(`http://${text}/`) ? new URL(`http://${text}/`).hostname : undefined
        const parsed = parseAddress(text)
        const dotted =
          parsed && [24n, 16n, 8n, 0n].map((shift) => String((parsed.value >> shift) & 255n)).join('.')
        expect(dotted).toBe(url)
      }),
      { numRuns: 1000 },
    )
  })

  it('T11 no spelling of a refused IPv4 address gets through, whatever carries it', () => {
    const inner = fc.constantFrom('169.254.169.254', '127.0.0.1', '10.96.0.1', '168.63.129.16')
    const prefix = fc.constantFrom('::ffff:', '::', '64:ff9b::', '::ffff:0:')
    fc.assert(
      fc.property(inner, prefix, fc.boolean(), (address, before, canonical) => {
        const text = before + address
        const spelled = canonical ? new URL(`http://[${text}]/`).hostname : text
        expect(addressRefusal(spelled, rules)).toBeTypeOf('string')
      }),
    )
  })

  it('never throws, whatever the host', () => {
    fc.assert(
      fc.property(
        fc.oneof(
          fc.string({ unit: 'binary' }),
          fc.string({ unit: fc.constantFrom(...Array.from('0123456789abcdefx:.%[]/')) }),
        ),
        (host) => {
          const refusal = hostRefusal(host, rules)
          expect(refusal === undefined || typeof refusal === 'string').toBe(true)
        },
      ),
      { numRuns: 2000 },
    )
  })

  it('takes only addresses from a resolver', () => {
    expect(addressRefusal('vault.internal', rules)).toBe('not an IP address')
  })
})
