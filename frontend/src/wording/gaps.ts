/**
 * What stands between the words of a caption, read from the caption itself: a space in most languages, nothing in
 * Chinese or Thai, nothing before the 's of a "dog's" or after the l' of "l'herbe".
 */
export function gapsAfter(words: readonly { text: string }[], caption: string): string[] {
  let place = 0;
  return words.map((word, index) => {
    const found = caption.indexOf(word.text, place);
    if (found < 0) return " ";
    place = found + word.text.length;
    const next = words[index + 1];
    if (next === undefined) return "";
    return caption.startsWith(next.text, place) ? "" : " ";
  });
}
