import { language, t } from "./language";

const day = new Intl.DateTimeFormat(language, { day: "numeric", month: "short", timeZone: "UTC" });
const moment = new Intl.DateTimeFormat(language, { dateStyle: "medium", timeStyle: "short" });
const whole = new Intl.NumberFormat(language);

/** "2026-11-22" as "Nov 22". */
export function shortDay(date: string): string {
  const time = Date.parse(`${date}T00:00:00Z`);
  return Number.isNaN(time) ? date : day.format(time);
}

export function longMoment(timestamp: string): string {
  const time = Date.parse(timestamp);
  return Number.isNaN(time) ? timestamp : moment.format(time);
}

export const counted = (count: number): string => whole.format(count);

const oneDecimal = new Intl.NumberFormat(language, { minimumFractionDigits: 1, maximumFractionDigits: 1 });
export const decimal = (value: number): string => oneDecimal.format(value);

export const meanStars = (mean: number | null): string => (mean === null ? t.noneYet : decimal(mean));
