import { expect, test } from 'vitest'
import { isPublicAddress } from './public-address.ts'

test.each([
  '93.184.215.14',
  '8.8.8.8',
  '2606:4700::1111',
  '::ffff:8.8.8.8',
  '64:ff9b::808:808',
  '2002:808:808::1',
])('%s is public', (address) => {
  expect(isPublicAddress(address)).toBe(true)
})

test.each([
  ['loopback', '127.0.0.1'],
  ['loopback', '::1'],
  ['private', '10.1.2.3'],
  ['private', '172.16.0.1'],
  ['private', '192.168.1.1'],
  ['metadata service, link-local', '169.254.169.254'],
  ["Azure's wire server", '168.63.129.16'],
  ["Azure's wire server, mapped", '::ffff:168.63.129.16'],
  ["Azure's wire server, 6to4", '2002:a83f:8110::1'],
  ["Alibaba's metadata service", '100.100.100.200'],
  ["Oracle's metadata service", '192.0.0.192'],
  ["Google's metadata service", 'fd20:ce::254'],
  ['link-local', 'fe80::1'],
  ['link-local with a zone', 'fe80::1%eth0'],
  ['unique-local', 'fd00:ec2::254'],
  ['carrier-grade NAT', '100.64.0.1'],
  ['unspecified', '0.0.0.0'],
  ['unspecified', '::'],
  ['this network', '0.1.2.3'],
  ['broadcast', '255.255.255.255'],
  ['multicast', '224.0.0.1'],
  ['multicast', 'ff02::1'],
  ['documentation', '192.0.2.1'],
  ['documentation', '2001:db8::1'],
  ['benchmarking', '198.18.0.1'],
  ['reserved', '240.0.0.1'],
  ['mapped loopback', '::ffff:127.0.0.1'],
  ['mapped private', '::ffff:a00:1'],
  ['NAT64 of a private one', '64:ff9b::10.0.0.1'],
  ['local NAT64', '64:ff9b:1::808:808'],
  ['6to4 of a private one', '2002:a00:1::1'],
  ['6to4 of loopback', '2002:7f00:1::'],
  ['Teredo', '2001::1'],
  ['compatible, long deprecated', '::127.0.0.1'],
  ['outside of the allocated block', '4000::1'],
  ['a name', 'example.com'],
  ['nothing', ''],
])('%s (%s) is not', (_, address) => {
  expect(isPublicAddress(address)).toBe(false)
})
