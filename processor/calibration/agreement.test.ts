import { expect, it } from 'vitest'
import { agreementScore, agreementWith, tagAgreementWith } from './agreement.ts'

const unpruned = [
  'a red car by day',
  'a blue fish at sea',
  'a green house in the desert',
  'two birds at night',
]

it('is 1 for the unpruned captions themselves', () => {
  expect(agreementWith(unpruned)(unpruned)).toEqual({ exact: 1, cider: 1 })
})

it('counts equal captions, and gives CIDEr-D over that of equal ones', () => {
  const { exact, cider } = agreementWith(unpruned)(['a red car by night', ...unpruned.slice(1)])
  expect(exact).toBe(0.75)
  expect(cider).toBeGreaterThan(0.75)
  expect(cider).toBeLessThan(1)
})

it('takes the share of equal captions where CIDEr-D cannot tell', () => {
  expect(agreementWith(['a cat', 'a cat'])(['a cat', 'a dog'])).toEqual({ exact: 0.5, cider: 0.5 })
})

it('scores a caption that is nearly right above one that is all wrong', () => {
  const agreement = agreementWith(unpruned)
  const nearly = agreementScore(agreement(['a red car by night', ...unpruned.slice(1)]))
  const wrong = agreementScore(agreement(['zebra', ...unpruned.slice(1)]))
  expect(nearly).toBeGreaterThan(wrong)
})

it('compares tags whatever their order, and counts those in common', () => {
  const agreement = tagAgreementWith(['cat, hat, night', 'tree', ''])
  expect(agreement(['night, cat, hat', 'tree', ''])).toEqual({ exact: 1, cider: 1 })
  expect(agreement(['cat, hat', 'house', ''])).toEqual({ exact: 1 / 3, cider: (2 / 3 + 0 + 1) / 3 })
})
