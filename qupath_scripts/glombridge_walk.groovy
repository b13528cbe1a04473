/*
 * glombridge_walk.groovy - the queue of the review window without the window; not run by itself.
 *
 * Does:   tells what there is to review, what of it is shown, what comes next and how much is left; has decisions
 *         written onto the right objects and takes them back.
 * Needs:  QuPath 0.4 or later, no extension. It must lie in the same folder as the other scripts.
 * Tried:  with the libraries of QuPath 0.4.4, 0.5.1, 0.6.0 and 0.7.0.
 */

import groovy.transform.Field
import qupath.lib.objects.PathObject

/** What there is to review: one map for each object, over all images of a project. */
class ReviewQueue {

    // A sign is drawn around the outline of one reader; the object here may be a box, or another outline.
    private static final double LEAST_OVERLAP = 0.25

    private final shared
    private final scheme

    ReviewQueue(Object shared, Object scheme) {
        this.shared = shared
        this.scheme = scheme
    }

    /** Of one image: objects that are or were proposals or are glomeruli, and what readers see differently. */
    List<Map> items(String entryId, String image, Collection<PathObject> objects) {
        return objects.findAll { isWanted(it) || isSign(it) }.collect { item(entryId, image, it, objects) }
    }

    Map item(String entryId, String image, PathObject object, Collection<PathObject> objects) {
        Map metadata = shared.objects.metadata(object)
        Map measurements = shared.objects.measurements(object)
        PathObject judged = isSign(object) ? judgedBy(object, objects) : object
        Map grades = judged == null ? [:] : shared.objects.measurements(judged)
        String reason = metadata[shared.names.REASON] ?: ''
        def roi = object.getROI()
        return [
            entry: entryId, image: image, id: object.getID().toString(), className: shared.objects.className(object),
            judged: judged?.getID()?.toString(), judgedClass: judged == null ? null : shared.objects.className(judged),
            rank: finite(measurements[shared.names.QUEUE_RANK]), confidence: finite(measurements[shared.names.CONFIDENCE]),
            reason: reason, kind: reason.replaceAll(/\d+(\.\d+)?/, '#'), reader: metadata[shared.names.REVIEWER] ?: '',
            state: state(object, metadata),
            x: roi.getBoundsX(), y: roi.getBoundsY(), width: roi.getBoundsWidth(), height: roi.getBoundsHeight(),
            z: roi.getZ(), t: roi.getT(),
            lesions: scheme.lesions.collectEntries { [(it.name): finite(grades[shared.names.LESION + it.name])] },
        ]
    }

    /** By rank; what has none comes after, image by image and from top to bottom. */
    static List<Map> sorted(List<Map> items) {
        return items.sort(false) { a, b ->
            (a.rank ?: Double.MAX_VALUE) <=> (b.rank ?: Double.MAX_VALUE) ?: a.image <=> b.image ?:
                a.y <=> b.y ?: a.x <=> b.x ?: a.id <=> b.id
        }
    }

    /** Whether an object shows that readers see something differently. */
    boolean isSign(PathObject object) {
        return object.getROI() != null && shared.objects.className(object) == shared.names.DISAGREEMENT &&
            shared.objects.metadata(object)[shared.names.STATE] == shared.names.DISAGREEMENT_STATE
    }

    /** The object that a verdict on a disagreement is for; null = there is none at its place. */
    PathObject judgedBy(PathObject sign, Collection<PathObject> objects) {
        // What is rejected comes last: somebody may have drawn the glomerulus anew.
        return objects.findAll { isWanted(it) && overlap(it.getROI(), sign.getROI()) >= LEAST_OVERLAP }.max { a, b ->
            (shared.objects.className(a) != scheme.rejected) <=> (shared.objects.className(b) != scheme.rejected) ?:
                overlap(a.getROI(), sign.getROI()) <=> overlap(b.getROI(), sign.getROI())
        }
    }

    private boolean isWanted(PathObject object) {
        String className = shared.objects.className(object)
        return (object.isAnnotation() || object.isDetection()) && object.getROI() != null &&
            (scheme.baseOf(className) != null || className == scheme.rejected || scheme.isProposed(className))
    }

    private String state(PathObject object, Map<String, String> metadata) {
        String className = shared.objects.className(object)
        if (className == shared.names.DISAGREEMENT) {
            return metadata[shared.names.REVIEWER] ? 'settled' : 'disagreement'
        }
        if (className == scheme.rejected) {
            return 'rejected'
        }
        if (scheme.isProposed(className)) {
            return 'proposed'
        }
        return scheme.lesions && metadata[shared.names.GRADED] == scheme.stamp ? 'graded' : 'accepted'
    }

    /** Intersection over union of the boxes of two outlines in one plane. */
    private static double overlap(Object a, Object b) {
        double width = Math.min(a.getBoundsX() + a.getBoundsWidth(), b.getBoundsX() + b.getBoundsWidth()) - Math.max(a.getBoundsX(), b.getBoundsX())
        double height = Math.min(a.getBoundsY() + a.getBoundsHeight(), b.getBoundsY() + b.getBoundsHeight()) -
            Math.max(a.getBoundsY(), b.getBoundsY())
        if (width <= 0 || height <= 0 || a.getZ() != b.getZ() || a.getT() != b.getT()) {
            return 0
        }
        double both = width * height
        return both / (a.getBoundsWidth() * a.getBoundsHeight() + b.getBoundsWidth() * b.getBoundsHeight() - both)
    }

    private static Double finite(Double value) {
        return value == null || value.isNaN() || value.isInfinite() ? null : value
    }

}

/** Where a reader stands in the queue. Objects are given to it each time: images are opened and closed under it. */
class ReviewWalk {

    final scheme
    final ReviewQueue queue
    List<Map> items = []
    // What is shown; null = all of them. 'kind' is that of the reason, its numbers aside.
    final Map filter = [shown: 'to judge', image: null, kind: null, lowest: null, highest: null]
    private final decisions
    private final List<Map> undo = []

    ReviewWalk(Object shared, Object scheme) {
        this.scheme = scheme
        queue = new ReviewQueue(shared, scheme)
        decisions = shared.decisions(scheme)
    }

    /** What an image holds now; the order stays by rank. */
    void replace(String entryId, List<Map> fresh) {
        items = ReviewQueue.sorted(items.findAll { it.entry != entryId } + fresh)
    }

    List<String> getChoices() {
        return ['to judge'] + (scheme.lesions ? ['to grade'] : []) + ['judged'] + (items.any { isSign(it) } ? ['disagreements'] : []) + ['everything']
    }

    /** What a reader has most likely come for. */
    String getFirstChoice() {
        boolean hasProposals = items.any { it.state == 'proposed' }
        return !hasProposals && items.any { it.state == 'disagreement' } ? 'disagreements' : 'to judge'
    }

    List<Map> getVisible() {
        return items.findAll { item ->
            isShown(item) && filter.image in [null, item.image] && filter.kind in [null, item.kind] &&
                (filter.lowest == null || (item.confidence ?: 0) >= filter.lowest) &&
                (filter.highest == null || (item.confidence ?: 0) <= filter.highest)
        }
    }

    static boolean isSign(Map item) {
        return item.state in ['disagreement', 'settled']
    }

    /** What the list says of a row: rank, class, confidence. */
    static String inShort(Map item) {
        String rank = item.rank == null ? '' : "${item.rank as int}.  "
        String confidence = item.confidence == null ? '' : "  ${rounded(item.confidence)}"
        return "${rank}${title(item)}${confidence}"
    }

    /** What is said below the list. */
    static String inWords(Map item) {
        boolean isSaid = item.confidence == null || item.reason.startsWith('confidence')
        return [title(item), isSaid ? null : "confidence ${rounded(item.confidence)}", item.reason,
                item.reader ? "by ${item.reader}" : null,].findAll { it }.join(' - ')
    }

    /** The class; of a disagreement that of the glomerulus, too. */
    private static String title(Map item) {
        return item.judgedClass in [null, item.className] ? item.className : "${item.className} on ${item.judgedClass}"
    }

    private static String rounded(Double value) {
        return String.format(Locale.ROOT, '%.2f', value)
    }

    /** Whether something is still to be done, as the filter understands it. */
    boolean isOpen(Map item) {
        return item.state in ['proposed', 'disagreement'] || (filter.shown == 'to grade' && item.state == 'accepted')
    }

    private boolean isShown(Map item) {
        switch (filter.shown) {
            case 'to judge': return item.state == 'proposed'
            case 'to grade': return item.state in ['proposed', 'accepted']
            case 'judged': return item.state in ['accepted', 'graded', 'rejected']
            case 'disagreements': return isSign(item)
            default: return true
        }
    }

    /** The place of what comes next in a list, -1 = nothing. */
    int next(List<Map> list, int at, int by, boolean onlyOpen) {
        for (int to = at + by; to >= 0 && to < list.size(); to += by) {
            if (!onlyOpen || isOpen(list[to])) {
                return to
            }
        }
        return -1
    }

    /** In words, and how much of it is done, from 0 to 1. */
    Map getCounts() {
        List<Map> here = items.findAll { filter.image in [null, it.image] }
        List<Map> signs = here.findAll { isSign(it) }
        if (filter.shown == 'disagreements') {
            int settled = signs.count { it.state == 'settled' }
            return [text: "${settled} settled, ${signs.size() - settled} left".toString(), done: signs ? settled / signs.size() as double : 0d]
        }
        List<Map> chosen = here - signs
        int left = chosen.count { it.state == 'proposed' }
        int rejected = chosen.count { it.state == 'rejected' }
        int graded = chosen.count { it.state == 'graded' }
        String grading = scheme.lesions ? ", ${graded} of ${chosen.size() - rejected} graded" : ''
        int done = scheme.lesions ? graded + rejected : chosen.size() - left
        return [text: "${chosen.size() - left} judged, ${left} left${grading}".toString(), done: chosen ? done / chosen.size() as double : 0d]
    }

    /**
     * One decision on what a row stands for; a verdict on a disagreement goes onto the glomerulus and settles it.
     *
     * @param objects all of the image
     * @return what was changed
     */
    List<PathObject> decide(Map said, Map item, Collection<PathObject> objects, String what) {
        PathObject object = find(objects, item.id)
        PathObject sign = isSign(item) ? object : null
        if (sign != null) {
            object = queue.judgedBy(sign, objects)
            if (object == null && what != 'reject') {
                throw new IllegalStateException('No glomerulus is marked here in this project. Draw it, give it the class ' +
                    "${scheme.classes[0]}, then decide; or reject: there is none.")
            }
        }
        Map<PathObject, Map> before = [:]
        if (object != null) {
            before[object] = decisions.decide(said, object, what)
        }
        if (sign != null && what != 'edit') {
            before[sign] = decisions.settle(said, sign)
        }
        undo << [item: item, before: before.collect { changed, was -> [id: changed.getID().toString(), was: was] }]
        refresh(item, before.keySet(), objects)
        return before.keySet() as List
    }

    /** The row of the decision that would be taken back; null = there is none. */
    Map getLast() {
        return undo ? undo[-1].item : null
    }

    /** Takes the last decision back; empty = its objects are no longer there. */
    List<PathObject> takeBack(Collection<PathObject> objects) {
        List<PathObject> found = undo[-1].before.collect { find(objects, it.id) }
        if (found.any { it == null }) {
            return []
        }
        // Groovy's pop() takes the first one.
        Map last = undo.remove(undo.size() - 1)
        last.before.eachWithIndex { change, place -> decisions.restore(found[place], change.was) }
        refresh(last.item, found, objects)
        return found
    }

    /** Decisions in an image that was read again cannot be taken back. */
    void forget(String entryId) {
        undo.removeAll { it.item.entry == entryId }
    }

    static PathObject find(Collection<PathObject> objects, String id) {
        return objects?.find { it.getID().toString() == id }
    }

    /** Rows are the same maps all the time, so that lists that show them need not be filled again. */
    private void refresh(Map item, Collection<PathObject> changed, Collection<PathObject> objects) {
        Set<String> ids = changed*.getID()*.toString() as Set
        items.findAll { it.entry == item.entry && (it.is(item) || it.id in ids || it.judged in ids) }.each { row ->
            PathObject object = find(objects, row.id)
            if (object != null) {
                row.putAll(queue.item(row.entry, row.image, object, objects))
            }
        }
    }

}

// What the review window calls on this one.

@Field Object shared = null

/** See glombridge_shared.groovy. */
int getLevel() {
    return 2
}

ReviewWalk walk(Object scheme) {
    return new ReviewWalk(shared, scheme)
}
