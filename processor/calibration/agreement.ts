import type { LevelQuality } from '../models/levels.ts'
import { type CiderD, ciderD } from './cider.ts'

/** Agreement of captions with the unpruned ones of the same pictures. */
export type Agreement = (captions: readonly string[]) => LevelQuality

/**
 * Compares captions with the unpruned ones, which are the references of CIDEr-D. Where these are too alike for CIDEr-D, the
 * share of equal captions replaces it.
 */
export function agreementWith(unpruned: readonly string[]): Agreement {
  const cider: CiderD = ciderD(unpruned)
  return (captions) => {
    const equal = captions.filter((caption, i) => caption === unpruned[i]).length
    const exact = equal / unpruned.length
    if (equal === unpruned.length) return { exact: 1, cider: 1 }
    return { exact, cider: cider.best > 0 ? Math.min(1, cider.score(captions) / cider.best) : exact }
  }
}

/** Tags of an image, as a tagger's caption joins them. */
const tagsIn = (caption: string) => new Set(caption === '' ? [] : caption.split(', '))

/** Of a tagger: the share of images with equal tags, and in the place of CIDEr-D the mean share of tags in common. */
export function tagAgreementWith(unpruned: readonly string[]): Agreement {
  const expected = unpruned.map(tagsIn)
  return (captions) => {
    const shares = captions.map((caption, i) => commonShare(tagsIn(caption), expected[i]!))
    const mean = shares.reduce((sum, share) => sum + share, 0) / expected.length
    return { exact: shares.filter((share) => share === 1).length / expected.length, cider: mean }
  }
}

/** Tags in both over tags in either (Jaccard's index). */
function commonShare(tags: Set<string>, expected: Set<string>): number {
  const both = [...tags].filter((tag) => expected.has(tag)).length
  const either = tags.size + expected.size - both
  return either === 0 ? 1 : both / either
}

/**
 * Score to compare schedules by, 0 to 1. Exact captions alone do not tell a wrong word from a wrong sentence, and CIDEr-D
 * alone forgives wrong words.
 */
export const agreementScore = ({ exact, cider }: LevelQuality): number => (exact + cider) / 2
